//! Group `test`: what answers without doing anything, as Salt's module of this name.

use super::{Accepts, Argument, Call, Context, Function};
use crate::error::Result;
use crate::outputter::python;
use crate::vocab::{Map, Value};

pub(super) const FUNCTIONS: &[Function] = &[
    Function::reads(
        "test.arg",
        "Return the arguments as castoff understood them.\n\n    castoff call test.arg 1 '\"two\"' 3.1 txt=hello wow='{a: 1, b: hello}'",
        &[],
        arg,
    )
    .with_extra()
    .with_more(),
    Function::reads(
        "test.arg_clean",
        "Return the arguments as castoff understood them, as `test.arg` does.",
        &[],
        arg,
    )
    .with_extra()
    .with_more(),
    Function::reads(
        "test.arg_repr",
        "Return the arguments in Python's notation.\n\n    castoff call test.arg_repr 010 '[1, 2]' x=yes",
        &[],
        arg_repr,
    )
    .with_extra()
    .with_more(),
    Function::reads(
        "test.arg_type",
        "Return the Python types of the arguments.\n\n    castoff call test.arg_type 1 1.0 one x=None",
        &[],
        arg_type,
    )
    .with_extra()
    .with_more(),
    Function::reads(
        "test.echo",
        "Return the argument.\n\n    castoff call test.echo 'foo bar'",
        &[Argument::required("text", Accepts::Any, "What to return.")],
        |call, _| Ok(call.value("text").clone()),
    ),
    Function::reads("test.false", "Return False, which counts as failure.", &[], |_, _| Ok(Value::Bool(false))),
    Function::reads(
        "test.kwarg",
        "Return the keyword arguments.\n\n    castoff call test.kwarg num=1 txt=two env='{a: 1}'",
        &[],
        |call, _| Ok(Value::Map(call.more.clone())),
    )
    .with_more(),
    Function::reads(
        "test.ping",
        "Return True: castoff is there and answers.\n\n    castoff call test.ping",
        &[],
        |_, _| Ok(Value::Bool(true)),
    ),
    Function::reads(
        "test.retcode",
        "Return True with a return code, to see what becomes of it.\n\n    castoff call test.retcode 3 --retcode-passthrough",
        &[Argument::optional("code", Accepts::Int, super::Default::Int(42), "0 to 255.")],
        retcode,
    ),
    Function::reads(
        "test.sleep",
        "Return True after some seconds, to see how the daemon treats what takes long.\n\n    castoff call test.sleep 5",
        &[Argument::required("length", Accepts::Int, "Seconds, up to a day.")],
        sleep,
    )
    .long(),
    Function::reads("test.true", "Return True.", &[], |_, _| Ok(Value::Bool(true))),
    Function::reads(
        "test.version",
        "Return castoff's version.\n\n    castoff call test.version",
        &[],
        |_, _| Ok(Value::from(env!("CARGO_PKG_VERSION"))),
    ),
];

/// The call with arguments of any name, as Salt's functions see it.
fn both(call: &Call, show_list: impl Fn(&[Value]) -> Value, show_map: impl Fn(&Map) -> Value) -> Value {
    Value::map([("args", show_list(&call.extra)), ("kwargs", show_map(&call.more))])
}

#[expect(clippy::unnecessary_wraps, reason = "the signature of every function")]
fn arg(call: &Call, _: &Context) -> Result<Value> {
    Ok(both(call, |list| Value::List(list.to_vec()), |map| Value::Map(map.clone())))
}

#[expect(clippy::unnecessary_wraps, reason = "the signature of every function")]
fn arg_repr(call: &Call, _: &Context) -> Result<Value> {
    let map = |map: &Map| Value::from(python::repr(&Value::Map(map.clone())));
    Ok(both(call, |list| Value::from(python::tuple(list)), map))
}

#[expect(clippy::unnecessary_wraps, reason = "the signature of every function")]
fn arg_type(call: &Call, _: &Context) -> Result<Value> {
    let class = |value: &Value| Value::from(format!("<class '{}'>", python::type_name(value)));
    let map = |map: &Map| Value::Map(map.iter().map(|(key, value)| (key.clone(), class(value))).collect());
    Ok(both(call, |list| Value::List(list.iter().map(class).collect()), map))
}

fn retcode(call: &Call, context: &Context) -> Result<Value> {
    let code = call.integer("code")?;
    let code = u8::try_from(code).map_err(|error| {
        crate::error::Error::new(crate::error::Kind::Usage, format!("{code} is not a return code")).caused_by(error)
    })?;
    context.retcode.set(code);
    Ok(Value::Bool(true))
}

fn sleep(call: &Call, context: &Context) -> Result<Value> {
    let length = call.integer("length")?;
    let seconds = u64::try_from(length).ok().filter(|seconds| *seconds <= 86_400).ok_or_else(|| {
        crate::error::Error::new(crate::error::Kind::Usage, format!("test.sleep: `length` is 0 to 86400, not {length}"))
    })?;
    let mut stage = context.progress.stage("sleeping", Some(seconds * 10), crate::progress::Unit::Items);
    for _ in 0..seconds * 10 {
        std::thread::sleep(std::time::Duration::from_millis(100));
        stage.advance(1);
    }
    Ok(Value::Bool(true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::function::arguments::{Given, Request, bind};
    use crate::vocab::Key;

    fn bound(name: &str, request: Request) -> std::result::Result<Call, String> {
        bind(crate::function::find(name).unwrap(), request).map_err(|problem| problem.message)
    }

    #[test]
    fn published_keywords_are_dropped() {
        let request = Request::from(Map::from_iter([
            (Key::from("__pub_fun"), Value::from("test.arg")),
            (Key::from("x"), Value::from(1)),
        ]));
        assert_eq!(bound("test.arg", request).unwrap().more, Map::from_iter([(Key::from("x"), Value::from(1))]));
    }

    #[test]
    fn wrong_arguments_are_told_in_pythons_words() {
        let positional = |count: usize| Request { positional: vec![Given::default(); count], ..Request::default() };
        assert_eq!(
            bound("test.echo", positional(0)).unwrap_err(),
            "echo() missing 1 required positional argument: 'text'"
        );
        assert_eq!(
            bound("test.echo", positional(2)).unwrap_err(),
            "echo() takes 1 positional argument but 2 were given"
        );
        assert_eq!(
            bound("test.ping", positional(1)).unwrap_err(),
            "ping() takes 0 positional arguments but 1 was given"
        );
    }
}
