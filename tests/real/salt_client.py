"""castoff's Salt client against daemons of every kind, each a real unix socket; facts and delivered settings besides."""

import json
import os
import socket
import stat
import sys
import tempfile
import threading
import time
import unittest
from unittest import mock

import castoff_client as client
import castoff_delivered as delivered
import castoff_facts as facts
import castoff_module as module


def answer(status, body, *headers):
    """An HTTP answer as bytes."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(content)}", "Connection: close", *headers]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + content


class Server:
    """A daemon whose every connection is served by the next of some functions; the last one serves on."""

    def __init__(self, *behaviours):
        self.folder = tempfile.TemporaryDirectory()
        self.path = os.path.join(self.folder.name, "castoff.sock")
        self.behaviours = list(behaviours)
        self.requests = []
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(self.path)
        self.listener.listen()
        self.stopped = threading.Event()
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            behaviour = self.behaviours.pop(0) if len(self.behaviours) > 1 else self.behaviours[0]
            threading.Thread(target=self.one, args=(connection, behaviour), daemon=True).start()

    def one(self, connection, behaviour):
        with connection:
            request = self.read(connection)
            self.requests.append(request)
            try:
                if callable(behaviour):
                    behaviour(connection, self.stopped)
                else:
                    connection.sendall(behaviour)
            except OSError:
                pass  # The client has gone, as it should.

    @staticmethod
    def read(connection):
        text = b""
        while b"\r\n\r\n" not in text:
            text += connection.recv(65536)
        head, _, body = text.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:])
        while len(body) < int(headers.get("content-length", 0)):
            body += connection.recv(65536)
        return lines[0], headers, json.loads(body) if body else None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.listener.close()
        self.folder.cleanup()


def drip(connection, stopped):
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while not stopped.wait(0.05):
        connection.sendall(b" ")


def drip_headers(connection, stopped):
    connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
    while not stopped.wait(0.05):
        connection.sendall(b"x")


def hang(_, stopped):
    stopped.wait()


class DaemonTest(unittest.TestCase):
    def fails(self, kind, *behaviours, call=lambda daemon: daemon.pillar("m1"), timeout=20):
        with Server(*behaviours) as server:
            with self.assertRaises(client.CastoffError) as caught:
                call(client.connect({}, server.path, timeout))
            self.assertEqual(caught.exception.kind, kind, str(caught.exception))
            return str(caught.exception)

    def test_a_call_is_sent_whole_and_without_what_salt_adds(self):
        with Server(answer(200, {"return": {"é": None}, "retcode": 3})) as server:
            way = client.connect({"castoff.socket": server.path})
            kwarg = {"image": "é", "__pub_jid": "1", "__kwarg__": True}
            self.assertEqual(way.call("image.inspect", [1], kwarg, {"id": "m1"}), ({"é": None}, 3))
            line, headers, body = server.requests[0]
            self.assertEqual(line, "POST /v1/call HTTP/1.1")
            self.assertEqual(headers["content-type"], "application/json")
            expected = {"fun": "image.inspect", "arg": [1], "kwarg": {"image": "é"}, "minion": {"id": "m1"}}
            self.assertEqual(body, expected)

    def test_an_id_is_one_segment_of_the_path(self):
        with Server(answer(200, {})) as server:
            for minion_id in ("a/../b", "x;y", "é?#%", ".."):
                client.connect({}, server.path).pillar(minion_id)
            lines = [line for line, _, _ in server.requests]
            self.assertEqual(lines[0], "GET /v1/pillar/a%2F..%2Fb HTTP/1.1")
            self.assertEqual(lines[1], "GET /v1/pillar/x%3By HTTP/1.1")
            self.assertEqual(lines[2], "GET /v1/pillar/%C3%A9%3F%23%25 HTTP/1.1")

    def test_silence_ends_in_time(self):
        for behaviour in (hang, drip, drip_headers):
            began = time.monotonic()
            told = self.fails("timeout", behaviour, timeout=0.5)
            self.assertIn("within 0.5 s", told)
            self.assertLess(time.monotonic() - began, 5)

    def test_what_is_no_answer_is_a_failure(self):
        self.fails("unavailable", b"")
        self.fails("unavailable", b"nonsense\r\n\r\n")
        self.fails("unavailable", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}")
        self.fails("corrupt", answer(200, b"{"))
        self.fails("corrupt", answer(200, b"[" * 100000))
        self.fails("corrupt", answer(200, b"\xff"))
        for value in ([], "text", None, 1):
            self.fails("corrupt", answer(200, value))
        self.fails("corrupt", answer(200, {"no": "result"}), call=lambda daemon: daemon.call("x"))

    def test_an_answer_has_a_limit(self):
        with mock.patch.object(client, "LARGEST_ANSWER", 1000):
            self.fails("limit", answer(200, {"a": "x" * 2000}))

    def test_castoffs_reasons_and_hints_come_through(self):
        error = {"kind": "conflict", "message": "a", "causes": ["b", "c"], "hint": "d"}
        told = self.fails("conflict", answer(409, {"error": error}), call=lambda daemon: daemon.call("x"))
        self.assertEqual(told, "a\nCaused by: b\nCaused by: c\n\nhint: d")
        self.assertEqual(self.fails("failed", answer(500, {"_errors": ["castoff: e"]})), "castoff: e")
        self.assertEqual(self.fails("failed", answer(200, {"_errors": ["castoff: f"]})), "castoff: f")
        self.assertIn("answered 502", self.fails("failed", answer(502, {"strange": 1})))

    def test_a_daemon_that_is_busy_is_asked_again_while_there_is_time(self):
        busy = answer(503, {"error": {"kind": "limit", "message": "busy"}}, "Retry-After: 0")
        with Server(busy, busy, answer(200, {"a": 1})) as server:
            self.assertEqual(client.connect({}, server.path, 10).pillar("m1"), {"a": 1})
        later = answer(503, {"error": {"kind": "limit", "message": "busy"}}, "Retry-After: 100")
        self.assertEqual(self.fails("limit", later, timeout=1), "busy")

    def test_jobs_are_followed_to_their_end(self):
        accepted = answer(202, {"job": "J/1"})
        running = answer(200, {"state": "running"})
        done = answer(200, {"state": "done", "return": [1], "retcode": 5})
        with Server(accepted, running, b"", running, done) as server:
            self.assertEqual(client.connect({}, server.path).call("image.pack"), ([1], 5))
            self.assertEqual(server.requests[1][0], "GET /v1/jobs/J%2F1 HTTP/1.1")
        error = {"kind": "no-space", "message": "full", "causes": [], "hint": None}
        failed = answer(200, {"state": "failed", "error": error})
        call = lambda daemon: daemon.call("image.pack")  # noqa: E731
        self.assertEqual(self.fails("no-space", accepted, failed, call=call), "full")
        cancelled = answer(200, {"state": "cancelled", "error": None})
        self.assertIn("is cancelled", self.fails("failed", accepted, cancelled, call=call))
        with mock.patch.object(client, "JOB_PATIENCE", 0.2):
            self.assertIn("job J/1", self.fails("unavailable", accepted, b"", call=call))

    def test_a_socket_that_is_named_or_there_is_never_passed_over(self):
        with tempfile.TemporaryDirectory() as folder:
            absent = os.path.join(folder, "absent.sock")
            opts = {"castoff": {"socket": absent, "binary": sys.executable}}
            with self.assertRaises(client.CastoffError) as caught:
                client.connect(opts).pillar("m1")
            self.assertEqual(caught.exception.kind, "unavailable")
            refusing = os.path.join(folder, "refusing.sock")
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            listener.bind(refusing)
            listener.close()
            with mock.patch.object(client, "SYSTEM_SOCKET", refusing):
                with self.assertRaises(client.CastoffError) as caught:
                    client.connect({"castoff.binary": sys.executable}).pillar("m1")
            self.assertEqual(caught.exception.kind, "unavailable")

    def test_a_folder_that_hides_the_socket_is_an_error(self):
        with mock.patch("os.stat", side_effect=PermissionError(13, "Permission denied")):
            with self.assertRaises(client.CastoffError) as caught:
                client.connect({"castoff.binary": sys.executable})
        self.assertEqual(caught.exception.kind, "refused")

    def test_a_time_out_is_a_number_of_seconds(self):
        for timeout in ("soon", 0, -1, float("inf"), float("nan"), []):
            with self.assertRaises(client.CastoffError):
                client.connect({}, "/x.sock", timeout)


class ProcessTest(unittest.TestCase):
    def program(self, text):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = os.path.join(folder.name, "castoff")
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"#!/bin/sh\n{text}\n")
        os.chmod(path, stat.S_IRWXU)
        with mock.patch.object(client, "SYSTEM_SOCKET", os.path.join(folder.name, "absent")):
            return client.connect({"castoff.binary": path}, timeout=5)

    def test_failures_have_the_kind_of_the_exit_code_and_the_words_of_stderr(self):
        way = self.program("echo \"Error running 'x.y': gone\" >&2; exit 66")
        with self.assertRaises(client.CastoffError) as caught:
            way.call("x.y")
        self.assertEqual((caught.exception.kind, str(caught.exception)), ("not-found", "gone"))
        with self.assertRaises(client.CastoffError) as caught:
            self.program("exit 1").pillar("m1")
        self.assertIn("said nothing", str(caught.exception))

    def test_output_that_is_no_pillar_is_a_failure(self):
        for output in ("", "[1]", "null", "{", '{"_errors": ["castoff: no"]}'):
            with self.assertRaises(client.CastoffError):
                self.program(f"printf '%s' '{output}'").pillar("m1")

    def test_a_process_that_hangs_is_ended(self):
        way = self.program("exec sleep 100")
        way.timeout = 0.3
        with self.assertRaises(client.CastoffError) as caught:
            way.pillar("m1")
        self.assertEqual(caught.exception.kind, "timeout")

    def test_names_of_arguments_cannot_be_options_or_values(self):
        for name in ("--out", "a=b", "", "a b", "1a"):
            with self.assertRaises(client.CastoffError):
                self.program("exit 0").call("x.y", kwarg={name: 1})


class FactsTest(unittest.TestCase):
    def test_only_what_settings_are_made_from_leaves_the_minion(self):
        pillar = {
            "secret": {"password": "s3cret"},
            "makina-states": {"services": {"db": "s3cret"}, "cloud": {"ssl": "s3cret", "images": {"lxc": {"a": (1,)}}}},
            "makina-states.cloud": {"root": "/r", "key": "s3cret"},
            "makina-states.cloud.images.lxc-overrides": {"z": 1},
            "makina-states.cloud.imagesque": "s3cret",
            "makina-states.sf_user": "u",
            "master": {"id": "s3cret", "makina-states.sf_user": "v"},
            1: "s3cret",
        }
        opts = {"id": "m1", "file_roots": {"base": ["/f"]}, "password": "s3cret"}
        told = facts.of(opts, pillar, {"makina.lxc": True, "ip": "s3cret"})
        self.assertNotIn("s3cret", json.dumps(told))
        self.assertEqual(
            told,
            {
                "id": "m1",
                "opts": {"file_roots": {"base": ["/f"]}},
                "grains": {"makina.lxc": True},
                "pillar": {
                    "makina-states": {"cloud": {"images": {"lxc": {"a": [1]}}}},
                    "makina-states.cloud": {"root": "/r"},
                    "makina-states.cloud.images.lxc-overrides": {"z": 1},
                    "makina-states.sf_user": "u",
                    "master": {"makina-states.sf_user": "v"},
                },
            },
        )


class ArgumentsTest(unittest.TestCase):
    def test_defaults_are_not_sent_and_what_salt_adds_neither(self):
        def plain(image, layers=1, acls=None, test=False):
            return module.arguments(plain, locals())

        self.assertEqual(plain("x"), ([], {"image": "x"}))
        self.assertEqual(plain("x", 2, False), ([], {"image": "x", "layers": 2, "acls": False}))
        self.assertEqual(plain("x", test=True), ([], {"image": "x", "test": True}))
        self.assertEqual(plain("x", layers=True), ([], {"image": "x", "layers": True}))

        def more(*args, **kwargs):
            return module.arguments(more, locals())

        self.assertEqual(more(1, a=2, __pub_fun="x"), ([1], {"a": 2}))

        def both(name, kind="k", *args):  # pylint: disable=keyword-arg-before-vararg
            return module.arguments(both, locals())

        self.assertEqual(both("n"), ([], {"name": "n"}))
        self.assertEqual(both("n", "k", 3), (["n", "k", 3], {}))


class DeliveredTest(unittest.TestCase):
    @staticmethod
    def told(pillar=None, grains=None, opts=None):
        return facts.of({"id": "m1", **(opts or {})}, pillar or {}, grains or {})

    def test_the_strongest_layer_that_has_a_name_wins_whatever_its_value(self):
        name = "makina-states.sf_user"
        for told, expected in [
            (self.told(), "kiorky"),
            (self.told({name: "p"}, {name: "g"}), "p"),
            (self.told({name: "p"}, {name: "g"}, {name: None}), None),
            (self.told({"master": {name: "m"}}, {name: "g"}), "g"),
            (self.told({"master": {name: "m"}}), "m"),
            (self.told({"makina-states": {"sf_user": "n"}}), "n"),
        ]:
            self.assertEqual(delivered.settings(told)["sftp_user"], expected)

    def test_the_recorded_vectors_of_defaults(self):
        prefix = "makina-states.cloud.images"
        for pillar, lxc in [
            ({prefix: {"lxc": {"cron_sync": True}}}, {"cron_sync": True}),
            ({f"{prefix}.lxc.cron_sync": True}, {"cron_sync": True}),
            ({f"{prefix}.lxc": {"cron_hour": "5"}}, {"cron_hour": "5"}),
            ({prefix: {"lxc": {"cron_hour": "7"}}, f"{prefix}.lxc.cron_hour": "8"}, {"cron_hour": "8"}),
            ({"makina-states": {"cloud": {"images": {"lxc": {"cron_hour": "9"}}}}}, {"cron_hour": "9"}),
        ]:
            told = delivered.settings(self.told(pillar))
            self.assertEqual({key: told["lxc"][key] for key in lxc}, lxc, pillar)
            self.assertEqual(set(told), {"root", "kvm", "git_url", "sftp_url", "sftp_user", "lxc"}, pillar)
        for lists, expected in [({f"{prefix}.fl": ["b", "a"]}, ["a", "b"]), ({prefix: {"fl": ["z"]}}, ["z"])]:
            pillar = {prefix: {"fl": ["a"]}}
            pillar.update(lists)
            self.assertEqual(delivered.settings(self.told(pillar))["fl"], expected)
        with self.assertRaises(client.CommandExecutionError):
            delivered.settings(self.told({f"{prefix}.lxc": 5}))

    def test_vms_and_containers_have_no_cron(self):
        pillar = {"makina-states.cloud.images": {"lxc": {"cron_sync": True}}}
        self.assertTrue(delivered.settings(self.told(pillar))["lxc"]["cron_sync"])
        for more in ({"makina-states.cloud.is.vm": True}, {"makina-states.cloud": {"is": {"vm": True}}}):
            self.assertFalse(delivered.settings(self.told({**pillar, **more}))["lxc"]["cron_sync"], more)
        for grains in ({"makina.lxc": True}, {"virtual_subtype": "LXC"}, {"makina.devhost": True}):
            self.assertFalse(delivered.settings(self.told(pillar, grains))["lxc"]["cron_sync"], grains)
        no_lxc = {"makina.lxc": False, "virtual_subtype": "LXC"}
        self.assertTrue(delivered.settings(self.told(pillar, no_lxc))["lxc"]["cron_sync"])

    def test_version_files_are_read_where_the_pillar_has_no_version(self):
        with tempfile.TemporaryDirectory() as folder:
            versions = os.path.join(folder, "makina-states", "versions")
            os.makedirs(versions)
            for name, text in [("_version.txt", "25"), ("_version.txt.md5", "2ff98b3b" * 4 + "\n")]:
                with open(f"{versions}/makina-states-trusty-lxc{name}", "w", encoding="utf-8") as file:
                    file.write(text)
            images = {"makina-states-vivid": {"lxc_tarball_ver": "8", "lxc_url": "http://h/vivid-8"}}
            images["makina-states-trusty"] = {"lxc_url": "http://h/{img}-{flavor}-{ver}.tar"}
            pillar = {"makina-states.cloud.root": folder, "makina-states.cloud.images": {"lxc": {"images": images}}}
            told = delivered.settings(self.told(pillar))["lxc"]["images"]
            trusty = told["makina-states-trusty"]
            self.assertEqual((trusty["lxc_tarball_ver"], trusty["lxc_tarball_md5"]), ("25", "2ff98b3b" * 4))
            self.assertEqual(trusty["lxc_tarball"], "http://h/makina-states-trusty-lxc-25.tar")
            self.assertEqual(trusty["lxc_tarball_name"], "makina-states-trusty-lxc-25.tar")
            self.assertNotIn("standalone_tarball_ver", trusty)
            self.assertEqual(told["makina-states-vivid"]["lxc_tarball_ver"], "8")
            self.assertEqual(list(told)[0], "makina-states-vivid")
            with open(f"{versions}/makina-states-trusty-lxc_version.txt", "w", encoding="utf-8") as file:
                file.write("25b")
            with self.assertRaises(client.CommandExecutionError):
                delivered.settings(self.told(pillar))
            os.remove(f"{versions}/makina-states-trusty-lxc_version.txt")
            with self.assertRaises(client.CommandExecutionError):
                delivered.settings(self.told(pillar))
            images["../x"] = {}
            with self.assertRaises(client.CommandExecutionError):
                delivered.settings(self.told(pillar))

    def test_names_speak_of_their_release(self):
        for name, clone_from, release in [
            ("precise", None, "precise"),
            ("foo", "precise", "precise"),
            ("makina-states-bionic", "ubuntu-xenial", "bionic"),
            ("foo", None, "bionic"),
            ("imprecise", "xenial-2", "xenial"),
        ]:
            guessed = delivered.guess_template_env(self.told(), name, clone_from)
            self.assertEqual(guessed, {"os": "ubuntu", "release": release})

    def test_references_between_values_end(self):
        resolve = delivered.resolve
        vectors = {"a": ["{b}/{d}/{f}", "{c}", "{eee}"], "b": 1, "c": ["{d}", "b"], "d": "{b}", "eee": "{f}"}
        vectors.update(f="{g}", g="3")
        self.assertEqual(resolve(vectors)["a"], ["1/1/3", ["1", "b"], "3"])
        self.assertEqual(resolve({"a": "x{a}"}), {"a": "x{a}"})
        self.assertEqual(resolve({"a": "{nope}", "b": {"c": "{a}"}})["a"], "{nope}")
        resolve({"i": "{j}", "j": "{i}"})
        resolve({"lxc": {"p": "{lxc}"}})
        bomb = {f"n{count}": f"{{n{count + 1}}}" * 10 for count in range(20)}
        with self.assertRaises(client.CommandExecutionError):
            resolve(bomb)


if __name__ == "__main__":
    unittest.main()
