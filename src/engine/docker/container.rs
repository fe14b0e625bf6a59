//! A container of castoff: made, used and removed by one run, and swept up by a later one when that run was killed.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bollard::container::{AttachContainerResults, LogOutput};
use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use bollard::models::{ContainerConfig, ContainerCreateBody, ContainerInspectResponse, HealthConfig, HostConfig};
use bollard::query_parameters::{
    AttachContainerOptionsBuilder, CommitContainerOptionsBuilder, CreateContainerOptionsBuilder,
    ListContainersOptionsBuilder, RemoveContainerOptionsBuilder, StartContainerOptions, StopContainerOptionsBuilder,
    UploadToContainerOptionsBuilder,
};
use futures_util::StreamExt as _;

use super::client::Docker;
use super::failure::engine_error;
use super::images::id_of;
use super::overlay;
use super::owner::{LABEL, Owner, start_of};
use super::types::{CommandReport, ContainerSpec};
use crate::error::{Error, Kind, Result};
use crate::host;
use crate::progress::{Lines, Progress};
use crate::vocab::Digest;

/// Lines of a command's output kept for its report.
const TAIL: usize = 40;

/// How long the engine may take to remove a container by itself.
const REMOVAL_LIMIT: Duration = Duration::from_secs(30);

/// The longest piece of output the client hands over at once.
const OUTPUT_CAPACITY: usize = 64 * 1024;

/// A container of this run; removed when dropped.
pub struct Container<'a> {
    docker: &'a Docker,
    id: String,
    name: String,
    /// The container's standard input. The engine closes it when this process dies, so that a command that only
    /// waits for its end (see `refresh`) ends with castoff and the engine removes the container.
    input: Option<AttachContainerResults>,
    removed: bool,
}

impl Docker {
    /// Makes a container of an image, without mounts, as root, with a name of its own; it is not started.
    pub fn create(&self, spec: &ContainerSpec) -> Result<Container<'_>> {
        let owner = Owner::own()?.label();
        let unique = host::fs::read_text("/proc/sys/kernel/random/uuid".as_ref())?;
        let name = format!("castoff-{}", unique.trim());
        let doing = || format!("cannot make a container of `{}`", spec.image);
        let (program, arguments) = spec
            .command
            .split_first()
            .ok_or_else(|| Error::new(Kind::Usage, doing()).caused_by("there is no command to run in it"))?;
        let body = ContainerCreateBody {
            image: Some(spec.image.to_string()),
            entrypoint: Some(vec![program.clone()]),
            cmd: Some(arguments.to_vec()),
            env: Some(spec.environment.iter().map(|(name, value)| format!("{name}={value}")).collect()),
            user: Some("0:0".to_owned()),
            working_dir: Some("/".to_owned()),
            labels: Some(HashMap::from([(LABEL.to_owned(), owner)])),
            healthcheck: Some(HealthConfig { test: Some(vec!["NONE".to_owned()]), ..Default::default() }),
            attach_stdin: Some(true),
            open_stdin: Some(true),
            stdin_once: Some(true),
            host_config: Some(HostConfig {
                auto_remove: Some(true),
                network_mode: (!spec.network).then(|| "none".to_owned()),
                cap_add: (!spec.capabilities.is_empty()).then(|| spec.capabilities.clone()),
                ..Default::default()
            }),
            ..Default::default()
        };
        let options = CreateContainerOptionsBuilder::default().name(&name).build();
        let answer = self.ask(self.client.create_container(Some(options), body), doing)?;
        host::fault::point("engine.docker.container-created");
        Ok(Container { docker: self, id: answer.id, name, input: None, removed: false })
    }

    /// Removes the containers that killed runs of castoff on this machine left; their names.
    pub fn sweep(&self) -> Result<Vec<String>> {
        let me = Owner::own()?;
        let filters = HashMap::from([("label".to_owned(), vec![LABEL.to_owned()])]);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let listed = self.ask(self.client.list_containers(Some(options)), || {
            "cannot list the Docker engine's containers".to_owned()
        })?;
        let mut swept = Vec::new();
        for container in listed {
            let label = container.labels.unwrap_or_default().remove(LABEL).unwrap_or_default();
            let Some(id) = container.id else { continue };
            let Some(owner) = Owner::parse(&label) else { continue };
            if owner.is_gone(&me, start_of)? {
                self.remove_container(&id)?;
                let name = container.names.unwrap_or_default().into_iter().next().unwrap_or(id);
                swept.push(name.trim_start_matches('/').to_owned());
            }
        }
        Ok(swept)
    }

    /// Removes a container; when this returns it is gone.
    fn remove_container(&self, id: &str) -> Result<()> {
        let doing = || format!("cannot remove the container `{id}`");
        let began = Instant::now();
        loop {
            let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
            match self.ask(self.client.remove_container(id, Some(options)), doing) {
                Err(error) if error.kind() == Kind::NotFound => return Ok(()),
                // The engine is removing it by itself, because its command has just ended.
                Err(error) if error.kind() == Kind::Conflict && began.elapsed() < REMOVAL_LIMIT => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                other => return other,
            }
        }
    }
}

impl Container<'_> {
    /// The engine's ID of it.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Starts it.
    pub fn start(&mut self) -> Result<()> {
        let client = &self.docker.client;
        let attach = AttachContainerOptionsBuilder::default().stdin(true).stream(true).build();
        let doing = || format!("cannot start a container (`{}`)", self.name);
        self.input = Some(self.docker.ask(client.attach_container(&self.id, Some(attach)), doing)?);
        self.docker.ask(client.start_container(&self.id, None::<StartContainerOptions>), doing)?;
        host::fault::point("engine.docker.container-started");
        Ok(())
    }

    /// Unpacks a tar into one of its folders, which must exist.
    pub fn copy_in(&self, folder: &str, tar: Vec<u8>) -> Result<()> {
        let options = UploadToContainerOptionsBuilder::default().path(folder).build();
        let body = bollard::body_full(tar.into());
        self.docker.ask(self.docker.client.upload_to_container(&self.id, Some(options), body), || {
            format!("cannot copy files into `{folder}` of the container `{}`", self.name)
        })
    }

    /// Runs a command as root beside the container's own and waits for its end; its output goes to `progress`.
    pub fn exec(&self, command: &[String], progress: &Progress) -> Result<CommandReport> {
        let client = &self.docker.client;
        let doing = || format!("cannot run `{}` in the container `{}`", command.join(" "), self.name);
        let options = CreateExecOptions {
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            user: Some("0:0".to_owned()),
            cmd: Some(command.to_vec()),
            ..Default::default()
        };
        let began = Instant::now();
        let exec = self.docker.ask(client.create_exec(&self.id, options), doing)?.id;
        let how = StartExecOptions { output_capacity: Some(OUTPUT_CAPACITY), ..Default::default() };
        let StartExecResults::Attached { mut output, .. } =
            self.docker.ask(client.start_exec(&exec, Some(how)), doing)?
        else {
            return Err(Error::new(Kind::Failed, doing()).caused_by("the engine detached it"));
        };
        let mut lines = Lines::new(progress, TAIL);
        self.docker.wait(async {
            while let Some(piece) = output.next().await {
                match piece.map_err(|cause| engine_error(cause, doing()))? {
                    LogOutput::StdOut { message }
                    | LogOutput::StdErr { message }
                    | LogOutput::StdIn { message }
                    | LogOutput::Console { message } => lines.push(&message),
                }
            }
            Ok::<(), Error>(())
        })?;
        let state = self.docker.ask(client.inspect_exec(&exec), doing)?;
        let exit = state.exit_code.filter(|_| state.running != Some(true)).ok_or_else(|| {
            Error::new(Kind::Unavailable, doing()).caused_by("the engine let go of it before it ended")
        })?;
        Ok(CommandReport { exit, tail: lines.finish(), seconds: began.elapsed().as_secs_f64() })
    }

    /// Freezes every process in it.
    pub fn pause(&self) -> Result<()> {
        self.docker.ask(self.docker.client.pause_container(&self.id), || {
            format!("cannot freeze the container `{}`", self.name)
        })
    }

    /// Stops it, giving its command a second to end by itself.
    pub fn stop(&self) -> Result<()> {
        let options = StopContainerOptionsBuilder::default().t(1).build();
        self.docker.ask(self.docker.client.stop_container(&self.id, Some(options)), || {
            format!("cannot stop the container `{}`", self.name)
        })
    }

    /// The merged root of the running container on this host, as it is below the container's own mounts.
    ///
    /// Refused when the engine's containers are not processes of this host, or when this process may not look.
    pub fn root(&self) -> Result<PathBuf> {
        let state = self.inspect()?;
        let process = state.state.and_then(|state| state.pid).filter(|process| *process > 0).ok_or_else(|| {
            Error::new(Kind::Conflict, format!("the container `{}` does not run any more", self.name))
        })?;
        if !self.docker.is_local() || !overlay::is_process_of(process, &self.id)? {
            return Err(Error::new(
                Kind::Unsupported,
                format!("the containers of the Docker engine at `{}` do not run on this host", self.docker.address()),
            )
            .hint(
                "run castoff on the engine's own host, or do without ACLs (`acls=False`): engines do not export them",
            ));
        }
        let told = state.graph_driver.and_then(|mut driver| driver.data.remove("MergedDir")).map(PathBuf::from);
        overlay::root_on_host(process, told)
    }

    /// An image of its base's layers and one more with what changed in it (`docker commit`), without a name.
    pub(super) fn commit(&self) -> Result<Digest> {
        let options = CommitContainerOptionsBuilder::default().container(&self.id).pause(true).build();
        let doing = || format!("cannot commit the container `{}`", self.name);
        let answer =
            self.docker.ask(self.docker.client.commit_container(options, ContainerConfig::default()), doing)?;
        id_of(&answer.id)
    }

    /// The folders of the layers below the container's own, top first, where the storage driver tells them.
    pub(super) fn lower_dirs(&self) -> Result<Vec<PathBuf>> {
        let told = self.inspect()?.graph_driver.and_then(|mut driver| driver.data.remove("LowerDir"));
        Ok(told.iter().flat_map(|paths| paths.split(':')).map(PathBuf::from).collect())
    }

    pub(super) fn inspect(&self) -> Result<ContainerInspectResponse> {
        self.docker.ask(self.docker.client.inspect_container(&self.id, None), || {
            format!("cannot inspect the container `{}`", self.name)
        })
    }

    /// Removes it, running or not, with the volumes made for it.
    pub fn remove(mut self) -> Result<()> {
        self.removed = true;
        self.input = None;
        self.docker.remove_container(&self.id)
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        if !self.removed {
            self.input = None;
            // The work has failed already and its error matters more; the next run's sweep finds what stays.
            let _swept_later = self.docker.remove_container(&self.id);
        }
    }
}
