"""Stands before a real registry, writes down what it is asked, and does what bad lines and bad servers do.

registry_proxy.py PORT UPSTREAM_PORT LOG [FAULT=VALUE ...]
    cut=N         the first answer for each large blob breaks off after N bytes
    busy=N        the first N questions for manifests are answered 429 with Retry-After: 1
    redirect=PORT large blobs are at another port
    damage=1      a byte of every large blob is another one
    endless=1     large blobs never end
    slow=N        N bytes of a large blob at a time, then 20 ms of nothing
    upload=N      the first N pieces sent to an upload are taken, and the answer is a broken line
registry_proxy.py --tokens PORT KEY CERTIFICATE USER PASSWORD LOG
    gives out real tokens, signed with openssl, for what is asked; push only to who says the password
"""

import base64
import hashlib
import http.client
import json
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LARGE = 1 << 16
LOCK = threading.Lock()


def note(log, **facts):
    with LOCK, open(log, "a") as out:
        out.write(json.dumps(facts) + "\n")


class Proxy(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    faults, log, upstream, seen = {}, None, 0, set()

    def log_message(self, *_):
        pass

    def answer(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        facts = dict(method=self.command, path=self.path, range=self.headers.get("range"),
                     authorization=self.headers.get("authorization"), sent=len(body))
        is_manifest = "/manifests/" in self.path
        if is_manifest and self.once("busy", int(self.faults.get("busy", 0))):
            note(self.log, status=429, **facts)
            return self.reply(429, {"Retry-After": "1"}, b"")
        upstream = http.client.HTTPConnection("127.0.0.1", self.upstream)
        upstream.request(self.command, self.path, body, dict(self.headers))
        found = upstream.getresponse()
        content = found.read()
        headers = {name: value for name, value in found.getheaders() if name.lower() not in ("connection", "transfer-encoding", "date")}
        if self.command == "PATCH" and self.once("upload", int(self.faults.get("upload", 0))):
            note(self.log, status=0, **facts)
            return self.hang_up()
        is_blob = self.command == "GET" and "/blobs/sha256:" in self.path and found.status < 300 and len(content) > LARGE
        note(self.log, status=found.status, bytes=len(content) if self.command == "GET" else 0, **facts)
        if not is_blob:
            return self.reply(found.status, headers, content)
        if "redirect" in self.faults:
            return self.reply(307, {"Location": f"http://127.0.0.1:{self.faults['redirect']}{self.path}"}, b"")
        if "damage" in self.faults:
            content = content[:1000] + bytes([content[1000] ^ 1]) + content[1001:]
        if "endless" in self.faults:
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            try:
                while True:
                    self.wfile.write(b"%x\r\n%s\r\n" % (LARGE, bytes(LARGE)))
            except OSError:
                return None
        if "cut" in self.faults and self.once(self.path, 1):
            return self.reply(found.status, headers, content, int(self.faults["cut"]))
        return self.reply(found.status, headers, content)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = answer

    def once(self, what, times):
        with LOCK:
            if sum(1 for name, _ in self.seen if name == what) >= times:
                return False
            self.seen.add((what, len(self.seen)))
            return True

    def hang_up(self):
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def reply(self, status, headers, content, cut=None):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if not any(name.lower() == "content-length" for name in headers):
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "HEAD":
            return None
        if cut is not None:
            self.wfile.write(content[:cut])
            self.wfile.flush()
            return self.hang_up()
        step = int(self.faults.get("slow", 0)) if len(content) > LARGE else 0
        try:
            for at in range(0, len(content), step or len(content) or 1):
                self.wfile.write(content[at:at + step] if step else content)
                if step:
                    self.wfile.flush()
                    time.sleep(0.02)
        except OSError:
            self.close_connection = True


def plain(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Tokens(BaseHTTPRequestHandler):
    key = certificate = user = password = log = ""

    def log_message(self, *_):
        pass

    def do_GET(self):
        query = urllib.parse.parse_qs(urllib.parse.urlparse(self.path).query)
        said = self.headers.get("authorization")
        expected = "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        note(self.log, path=self.path, authorization=said)
        if said and said != expected:
            self.send_response(401)
            self.end_headers()
            return
        access = []
        for scope in query.get("scope", []):
            kind, name, actions = scope.split(":")
            access.append(dict(type=kind, name=name, actions=[a for a in actions.split(",") if said or a == "pull"]))
        now = int(time.time())
        claims = dict(iss="castoff-test", sub=self.user if said else "", aud=query["service"][0], exp=now + 300, nbf=now - 10,
                      iat=now, jti=hashlib.sha256(str(time.time_ns()).encode()).hexdigest(), access=access)
        der = "".join(line for line in open(self.certificate).read().splitlines() if "-----" not in line)
        head = dict(typ="JWT", alg="RS256", x5c=[der])
        text = plain(json.dumps(head).encode()) + "." + plain(json.dumps(claims).encode())
        signed = subprocess.run(["openssl", "dgst", "-sha256", "-sign", self.key], input=text.encode(), stdout=subprocess.PIPE, check=True)
        body = json.dumps(dict(token=text + "." + plain(signed.stdout))).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if sys.argv[1] == "--tokens":
    port = int(sys.argv[2])
    Tokens.key, Tokens.certificate, Tokens.user, Tokens.password, Tokens.log = sys.argv[3:8]
    handler = Tokens
else:
    port, Proxy.upstream, Proxy.log = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    Proxy.faults = dict(word.split("=", 1) for word in sys.argv[4:])
    handler = Proxy
ThreadingHTTPServer.daemon_threads = True
ThreadingHTTPServer(("127.0.0.1", port), handler).serve_forever()
