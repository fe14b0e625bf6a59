//! `release.*`, and the upload and announcement of `mc_cloud_images`: releases, and looking at them.

use super::{Accepts, Argument, Call, Context, Default, Function};
use crate::error::{Error, Kind, Result};
use crate::release::{self, Archived, Begun, Freight, Options, Outcome, Setup};
use crate::rootfs::Limits;
use crate::settings;
use crate::vocab::{Flavour, Key, Map, OsImage, ReleaseNumber, Value};

const IMAGE: Argument = Argument::required("image", Accepts::Text, "Name of the image, such as `makina-states-trusty`");
const FLAVOR: Argument = Argument::required("flavor", Accepts::Text, "Flavour: `lxc`, `standalone`, or one of yours");
const VERSION: Argument = Argument::required("version", Accepts::Int, "Number of the release");
const FORCE: Argument = Argument::optional(
    "force",
    Accepts::Bool,
    Default::Bool(false),
    "Release it although the same tree is announced already",
);
const CONTAINER: Argument = Argument::required("container", Accepts::Text, "Name of the image's container");
const FLAVOR_OF: Argument =
    Argument::optional("flavor", Accepts::Text, Default::Text("standalone"), "Flavour of the release");

const PUBLISH: &str = "Release a whole `.tar.xz` of this host: sign, upload to every target, announce.

What an earlier run has done is found by looking and not done again, so that the same call finishes a release that was
cut off. Whoever looks meanwhile sees the release before, whole.

    castoff call release.publish makina-states-trusty lxc /var/lib/lxc/makina-states-trusty-lxc-26.tar.xz";

const STATUS: &str = "Return what is served now, and what is under way, of each image and flavour.

Without arguments of every image that was ever released from this host.

    castoff call release.status
    castoff call release.status makina-states-trusty lxc";

const HISTORY: &str = "Return the releases that the branch has announced, and the journals of this host, newest first.

    castoff call release.history makina-states-trusty lxc";

const RESUME: &str = "Finish the releases that were cut off on this host.

Without arguments all of them; one that cannot be finished keeps no other from it.

    castoff call release.resume";

const VERIFY: &str =
    "Check what is announced as a host would: signature, hashes, every file from every place, unpacked to nowhere.

    castoff call release.verify makina-states-trusty lxc";

const PRUNE: &str = "Remove the files of old releases from every target.

What one of the last `keep` releases names stays, whatever its number, and what is being released too.

    castoff call release.prune makina-states-trusty lxc test=True
    castoff call release.prune makina-states-trusty lxc keep=5";

const ROLLBACK: &str = "Announce what an older release holds as the next one; nothing is uploaded again.

Hosts never go back by number, so the older content gets a new number. Its files must still be at every target.

    castoff call release.rollback makina-states-trusty lxc 25";

const WITHDRAW: &str = "Take the announced release back: the branch then announces none.

Hosts keep what they have. The number is not used again; the files stay until they are pruned.

    castoff call release.withdraw makina-states-trusty lxc 26";

const UPLOAD: &str = "Upload an image's archive to every target, under a number that nobody uses; return where it is.

The archive is `absolute_tarball` of get_vars, whose variables may be given. Nothing is announced.

    castoff call mc_cloud_images.upload makina-states-trusty flavor=lxc";

const PUBLISH_RELEASE: &str = "Announce an image's archive, uploading it first where that was not done.

    castoff call mc_cloud_images.publish_release makina-states-trusty flavor=lxc";

/// The group's rows.
pub(super) const FUNCTIONS: &[Function] = &[
    Function::changes(
        "release.publish",
        PUBLISH,
        &[IMAGE, FLAVOR, Argument::required("file", Accepts::Path, "The `.tar.xz` of this host"), FORCE],
        publish,
    )
    .long(),
    Function::reads(
        "release.status",
        STATUS,
        &[
            Argument::optional("image", Accepts::Text, Default::Null, "Name of the image; null: all"),
            Argument::optional("flavor", Accepts::Text, Default::Null, "Flavour; null: all"),
        ],
        status,
    ),
    Function::reads(
        "release.history",
        HISTORY,
        &[IMAGE, FLAVOR, Argument::optional("limit", Accepts::Int, Default::Int(20), "The most releases to tell of")],
        history,
    ),
    Function::changes(
        "release.resume",
        RESUME,
        &[
            Argument::optional("image", Accepts::Text, Default::Null, "Name of the image; null: all"),
            Argument::optional("flavor", Accepts::Text, Default::Null, "Flavour; null: all"),
        ],
        resume,
    )
    .long(),
    Function::reads("release.verify", VERIFY, &[IMAGE, FLAVOR], verify).long(),
    Function::changes(
        "release.prune",
        PRUNE,
        &[
            IMAGE,
            FLAVOR,
            Argument::optional("keep", Accepts::Int, Default::Null, "Releases that keep their files; null: `release.keep`"),
        ],
        prune,
    )
    .long(),
    Function::changes("release.rollback", ROLLBACK, &[IMAGE, FLAVOR, VERSION], rollback).long(),
    Function::changes("release.withdraw", WITHDRAW, &[IMAGE, FLAVOR, VERSION], withdraw),
    Function::changes("mc_cloud_images.upload", UPLOAD, &[CONTAINER, FLAVOR_OF], |call, context| {
        upload(call, context, call.text("flavor")?)
    })
    .with_more()
    .long(),
    Function::changes(
        "mc_cloud_images.upload_lxc",
        "Upload the `lxc` archive of an image; see upload.\n\n    castoff call mc_cloud_images.upload_lxc makina-states-trusty",
        &[CONTAINER],
        |call, context| upload(call, context, "lxc"),
    )
    .with_more()
    .long(),
    Function::changes(
        "mc_cloud_images.upload_standalone",
        "Upload the `standalone` archive of an image; see upload.\n\n    castoff call mc_cloud_images.upload_standalone makina-states-trusty",
        &[CONTAINER],
        |call, context| upload(call, context, "standalone"),
    )
    .with_more()
    .long(),
    Function::changes(
        "mc_cloud_images.publish_release",
        PUBLISH_RELEASE,
        &[CONTAINER, FLAVOR_OF],
        |call, context| publish_release(call, context, call.text("flavor")?),
    )
    .with_more()
    .long(),
    Function::changes(
        "mc_cloud_images.publish_release_lxc",
        "Announce the `lxc` archive of an image; see publish_release.\n\n    castoff call mc_cloud_images.publish_release_lxc makina-states-trusty",
        &[CONTAINER],
        |call, context| publish_release(call, context, "lxc"),
    )
    .with_more()
    .long(),
    Function::changes(
        "mc_cloud_images.publish_release_standalone",
        "Announce the `standalone` archive of an image; see publish_release.\n\n    castoff call mc_cloud_images.publish_release_standalone makina-states-trusty",
        &[CONTAINER],
        |call, context| publish_release(call, context, "standalone"),
    )
    .with_more()
    .long(),
];

/// The settings of this machine.
pub(super) fn settings_of(context: &Context) -> Result<Value> {
    let found = context.settings.fresh(|service, base, files| {
        let facts = service.facts_of(context.facts.as_ref(), base, files)?;
        settings::settings(&service.inputs(base, &facts, files))
    })?;
    Ok(found.into_value())
}

pub(super) fn setup(context: &Context) -> Result<Setup> {
    Setup::of(&context.config, &settings_of(context)?, &context.progress, context.cancel()?)
}

fn limits(context: &Context) -> Limits {
    Limits { entries: context.config.limit_entries, ..Limits::default() }
}

fn names(call: &Call) -> Result<(OsImage, Flavour)> {
    Ok((call.text("image")?.parse()?, call.text("flavor")?.parse()?))
}

fn number(call: &Call) -> Result<ReleaseNumber> {
    call.integer("version")?.to_string().parse()
}

fn publish(call: &Call, context: &Context) -> Result<Value> {
    let ((image, flavour), setup) = (names(call)?, setup(context)?);
    let path = call.path("file")?;
    let archived = release::archived_at(setup.state(), (&image, &flavour), &path, limits(context), &context.progress)?;
    if call.test {
        return release::preview(&setup, &image, &flavour, Some(&Freight::New(archived)), None);
    }
    let options = Options { force: call.boolean("force"), only_upload: false };
    let begun = Begun::begin(&setup, &image, &flavour, None)?;
    Ok(with_patches(&setup, begun, archived, options)?.to_value())
}

/// Carries an archive out, with patches from the releases before it.
pub(super) fn with_patches(
    setup: &Setup,
    begun: Begun<'_>,
    mut archived: Archived,
    options: Options,
) -> Result<Outcome> {
    archived.patches = release::patches(setup, begun.subject(), &archived)?;
    begun.carry_out(&Freight::New(archived), options)
}

/// The images and flavours that are asked for, else those that have journals.
fn asked(call: &Call, setup: &Setup) -> Result<Vec<(OsImage, Flavour)>> {
    let image: Option<OsImage> = call.maybe_text("image").map(str::parse).transpose()?;
    let flavour: Option<Flavour> = call.maybe_text("flavor").map(str::parse).transpose()?;
    if let (Some(image), Some(flavour)) = (&image, &flavour) {
        return Ok(vec![(image.clone(), flavour.clone())]);
    }
    let is_asked = |(one, other): &(OsImage, Flavour)| {
        image.as_ref().is_none_or(|image| image == one) && flavour.as_ref().is_none_or(|flavour| flavour == other)
    };
    Ok(setup.journals.all()?.into_iter().filter(is_asked).collect())
}

fn status(call: &Call, context: &Context) -> Result<Value> {
    let setup = setup(context)?;
    collected(&asked(call, &setup)?, context, |image, flavour| {
        let shown = release::status(&setup, image, flavour)?;
        if shown.get("problem").is_some() {
            context.retcode.set(1);
        }
        Ok(shown)
    })
}

/// A result for each, by image and flavour; a failure is one of them, and the return code says so.
fn collected(
    asked: &[(OsImage, Flavour)],
    context: &Context,
    mut work: impl FnMut(&OsImage, &Flavour) -> Result<Value>,
) -> Result<Value> {
    if let [(image, flavour)] = asked {
        let value = work(image, flavour)?;
        return Ok(Value::map([(image.to_string(), Value::map([(flavour.to_string(), value)]))]));
    }
    let mut images = Map::new();
    for (image, flavour) in asked {
        let value = work(image, flavour).unwrap_or_else(|error| {
            context.retcode.set(1);
            Value::map([("result", Value::from(false)), ("error", error.render().into())])
        });
        let flavours = images.entry(Key::from(image.as_str())).or_insert_with(|| Value::Map(Map::new()));
        if let Value::Map(flavours) = flavours {
            flavours.insert(Key::from(flavour.as_str()), value);
        }
    }
    Ok(Value::Map(images))
}

fn history(call: &Call, context: &Context) -> Result<Value> {
    let (image, flavour) = names(call)?;
    let most = usize::try_from(call.integer("limit")?).unwrap_or(0);
    release::history(&setup(context)?, &image, &flavour, most)
}

fn resume(call: &Call, context: &Context) -> Result<Value> {
    let setup = setup(context)?;
    let mut open = Vec::new();
    for (image, flavour) in asked(call, &setup)? {
        if !setup.journals.open_numbers(&image, &flavour)?.is_empty() {
            open.push((image, flavour));
        }
    }
    collected(&open, context, |image, flavour| {
        if call.test {
            return release::preview(&setup, image, flavour, None, None);
        }
        if let Some(number) = release::being_withdrawn(&setup, image, flavour)? {
            let commit = release::withdraw(&setup, image, flavour, number, false)?;
            return Ok(withdrawn(number, commit, true));
        }
        let begun = Begun::begin(&setup, image, flavour, None)?;
        if begun.waits() {
            return Ok(Value::map([
                ("result", Value::from(true)),
                (
                    "outcome",
                    "uploaded, and not announced: mc_cloud_images.publish_release or release.publish does".into(),
                ),
            ]));
        }
        if let Some(freight) = begun.freight()? {
            let options = Options { force: true, only_upload: begun.is_held() };
            return Ok(begun.carry_out(&freight, options)?.to_value());
        }
        begun.put_away()?;
        Ok(Value::map([("result", Value::from(true)), ("outcome", "nothing was left to do".into())]))
    })
}

fn verify(call: &Call, context: &Context) -> Result<Value> {
    let (image, flavour) = names(call)?;
    release::verify(&setup(context)?, &image, &flavour)
}

fn prune(call: &Call, context: &Context) -> Result<Value> {
    let ((image, flavour), setup) = (names(call)?, setup(context)?);
    let keep = match call.maybe_integer("keep") {
        None => setup.keep,
        Some(keep) => u32::try_from(keep).ok().filter(|keep| *keep > 0).ok_or_else(|| {
            Error::new(Kind::Usage, format!("`keep` must be 1 or more, not {keep}"))
                .hint("what is announced always keeps its files")
        })?,
    };
    let pruned = release::prune(&setup, &image, &flavour, keep, call.test)?;
    let by_target = |files: std::collections::BTreeMap<String, Vec<String>>| {
        Value::map(files.into_iter().map(|(target, files)| (target, Value::list(files))))
    };
    Ok(Value::map([
        ("result", if call.test { Value::Null } else { Value::from(true) }),
        ("removed", by_target(pruned.removed)),
        ("left_alone", by_target(pruned.foreign)),
        ("kept", Value::list(pruned.kept)),
    ]))
}

fn rollback(call: &Call, context: &Context) -> Result<Value> {
    let ((image, flavour), setup) = (names(call)?, setup(context)?);
    let freight = Freight::Again(Box::new(release::manifest_of(&setup, &image, &flavour, number(call)?)?));
    if call.test {
        return release::preview(&setup, &image, &flavour, Some(&freight), None);
    }
    Ok(Begun::begin(&setup, &image, &flavour, None)?.carry_out(&freight, Options::default())?.to_value())
}

fn withdraw(call: &Call, context: &Context) -> Result<Value> {
    let ((image, flavour), setup) = (names(call)?, setup(context)?);
    let number = number(call)?;
    let commit = release::withdraw(&setup, &image, &flavour, number, call.test)?;
    Ok(withdrawn(number, commit, !call.test))
}

fn withdrawn(number: ReleaseNumber, commit: Option<String>, done: bool) -> Value {
    Value::map([
        ("result", if done { Value::from(true) } else { Value::Null }),
        ("withdrawn", number.get().into()),
        ("commit", commit.into()),
    ])
}

/// An archive as the variables of a release name it, and the number that this host's version file tells.
struct Tarball {
    image: OsImage,
    flavour: Flavour,
    path: std::path::PathBuf,
    current: Option<ReleaseNumber>,
    sftp_url: String,
}

fn tarball(call: &Call, context: &Context, flavour: &str) -> Result<Tarball> {
    let mut given = call.more.clone();
    given.insert(Key::from("container"), call.value("container").clone());
    given.insert(Key::from("flavor"), Value::from(flavour));
    let found = context.settings.fresh(|service, base, files| {
        let facts = service.facts_of(context.facts.as_ref(), base, files)?;
        settings::get_vars(&service.inputs(base, &facts, files), &given)
    })?;
    let vars = found.into_value();
    let text = |name: &str| {
        let value = vars.get(name).and_then(Value::as_str);
        value.ok_or_else(|| Error::new(Kind::Usage, format!("`{name}` among the release's variables is no text")))
    };
    let current = match vars.get("cur_ver") {
        Some(Value::Int(number)) if *number > 0 => Some(number.to_string().parse()?),
        _ => None,
    };
    Ok(Tarball {
        image: text("container")?.parse()?,
        flavour: flavour.parse()?,
        path: text("absolute_tarball")?.into(),
        current,
        sftp_url: text("sftp_url")?.to_owned(),
    })
}

/// Carries the archive as far as is asked for; the plan alone with `test=True`.
fn carry(
    call: &Call,
    context: &Context,
    tarball: &Tarball,
    only_upload: bool,
) -> Result<std::result::Result<Outcome, Value>> {
    let setup = setup(context)?;
    let Tarball { image, flavour, path, current, .. } = tarball;
    let archived = release::archived_at(setup.state(), (image, flavour), path, limits(context), &context.progress)?;
    if call.test {
        return release::preview(&setup, image, flavour, Some(&Freight::New(archived)), *current).map(Err);
    }
    let options = Options { force: false, only_upload };
    with_patches(&setup, Begun::begin(&setup, image, flavour, *current)?, archived, options).map(Ok)
}

fn upload(call: &Call, context: &Context, flavour: &str) -> Result<Value> {
    let tarball = tarball(call, context, flavour)?;
    let outcome = match carry(call, context, &tarball, true)? {
        Ok(outcome) => outcome,
        Err(plan) => return Ok(plan),
    };
    url_of(context, &outcome, &tarball.sftp_url).map(Value::from)
}

/// Where the archive was uploaded to, as the settings write it where they say it.
pub(super) fn url_of(context: &Context, outcome: &Outcome, sftp_url: &str) -> Result<String> {
    let archive = outcome.manifest.as_ref().map(|manifest| manifest.archive()).transpose()?;
    let name = archive.map(|archive| archive.name.to_string()).unwrap_or_default();
    let place = match outcome.placed.first() {
        Some(placed) if !context.config.release.targets.is_empty() => placed.place.as_str(),
        _ => sftp_url,
    };
    Ok(format!("{place}/{name}"))
}

fn publish_release(call: &Call, context: &Context, flavour: &str) -> Result<Value> {
    let tarball = tarball(call, context, flavour)?;
    Ok(match carry(call, context, &tarball, false)? {
        Ok(_) => Value::Null,
        Err(plan) => plan,
    })
}
