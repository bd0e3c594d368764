"""Runs ./classify against canned answers on a Unix socket. Needs nothing but Python's own library."""

import json
import socket
import subprocess
import tempfile
import threading
import unittest
from pathlib import Path

HERE = Path(__file__).parent
IMAGE = HERE.parent / "digits" / "image.txt"
GOOD = {
    "model_version": "1.0.0",
    "outputs": [
        {"name": "x"},
        {"data": ['\u00e9"\\\n7\U0001f600'], "name": "label"},
        {"name": "score", "data": [[0.5e-1]]},
    ],
}
GOOD_TEXT = 'label: \u00e9"\\?7\U0001f600\nscore: 0.050000\nmodel_version: 1.0.0\n'


def response(body: object, status: int = 200, length: int | None = None) -> bytes:
    """An HTTP answer with `body` as JSON, or as it is where it is bytes."""
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (status, len(body) if length is None else length) + body


def classify(
    answer: list[bytes], arguments: tuple[str, ...] = (), image: str = str(IMAGE), until: bytes = b'{"name":"score"}]}'
):
    """What ./classify does when the agent sends `answer` once it has read `until`, and the request that it sent."""
    asked = []
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
        path = str(Path(folder, "agent.sock"))
        listener.bind(path)
        listener.listen(1)

        def serve() -> None:
            try:
                connection, _ = listener.accept()
            except OSError:
                return  # shut down below: the client never connected
            with connection:
                request = b""
                while until not in request:
                    block = connection.recv(65536 if len(until) > 1 else 1)
                    if not block:
                        return
                    request += block
                asked.append(request)
                try:
                    for part in answer:
                        connection.sendall(part)
                except OSError:
                    pass  # the client has seen enough

        server = threading.Thread(target=serve)
        server.start()
        done = subprocess.run(
            [HERE / "classify", "-s", path, *arguments, image], capture_output=True, encoding="utf-8", check=False
        )
        listener.shutdown(socket.SHUT_RDWR)
        server.join()
    return done, asked


class Classify(unittest.TestCase):
    """Each method is one promise of README.md."""

    def check(self, code: int, why: str, done: subprocess.CompletedProcess) -> None:
        self.assertEqual((done.returncode, done.stdout), (code, ""), done.stderr)
        self.assertIn(why, done.stderr)
        self.assertTrue(done.stderr.startswith(("error: ", "usage: ")), done.stderr)

    def test_a_good_answer_in_any_pieces(self):
        whole = response(GOOD)
        for parts in ([whole], [whole[i : i + 1] for i in range(len(whole))], [whole + b"more"], [whole.replace(b"Co", b"co")]):
            done, _ = classify(parts)
            self.assertEqual((done.returncode, done.stdout), (0, GOOD_TEXT), done.stderr)

    def test_the_request(self):
        _, (asked,) = classify([response(GOOD)], ("-m", "other"))
        head, body = asked.split(b"\r\n\r\n")
        self.assertTrue(head.startswith(b"POST /v2/models/other/infer HTTP/1.1\r\n"), head)
        self.assertIn(b"Content-Length: %d" % len(body), head)
        (pixels,) = json.loads(body)["inputs"]
        numbers = [float(n) for line in IMAGE.read_text().splitlines()[1:] for n in line.split()]
        self.assertEqual((pixels["shape"], pixels["datatype"], pixels["data"]), ([1, 1, 8, 8], "FP32", numbers))

    def test_answers_that_are_not_http(self):
        for answer, why in [
            (b"", "ended after 0 bytes"),
            (b"garbage\r\n\r\n", "not HTTP"),
            (b"HTTP/1.1 99 X\r\nContent-Length: 0\r\n\r\n", "not HTTP"),
            (b"HTTP/1.1 200 OK\r\n\r\n{}", "how long"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "transfer encoding"),
            (b"HTTP/1.1 200 OK\r\nX: \0\r\nContent-Length: 0\r\n\r\n", "NUL"),
            (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 20000, "head is longer"),
            (response(GOOD, length=9999), "of 9999 bytes came"),
            (response(b"", length=-1), "how long"),
            (response(b"", length=10**12), "longer than 1048576 bytes"),
            (response(b"", length=10**30), "longer than 1048576 bytes"),
        ]:
            with self.subTest(answer[:60]):
                self.check(1, why, classify([answer])[0])

    def test_answers_without_label_and_score(self):
        label, score = {"name": "label", "data": ["7"]}, {"name": "score", "data": [1]}
        for body in [
            b'{"outputs":[',
            b"[" * 100_000,
            {"outputs": []},
            {"outputs": [{**label, "data": []}, score]},
            {"outputs": [{**label, "data": [7]}, score]},
            {"outputs": [{**label, "data": ["a" * 300]}, score]},
            {"outputs": [label, {**score, "data": ["x"]}]},
        ]:
            with self.subTest(str(body)[:60]):
                self.check(1, "no label and score", classify([response(body)])[0])

    def test_refusals_are_told_without_control_characters(self):
        self.check(1, "status 404: none ?[31m", classify([response({"error": "none \x1b[31m"}, 404)])[0])
        self.check(1, "status 503: no reason given", classify([response(b"oops", 503)])[0])

    def test_a_refusal_before_the_body_was_read(self):
        done, _ = classify([response({"error": "none"}, 404)], until=b"P")
        self.check(1, "status 404: none", done)

    def test_long_keys_are_skipped(self):
        self.assertEqual(classify([response({"k" * 500: 1, **GOOD})])[0].stdout, GOOD_TEXT)

    def test_bad_images(self):
        for text in ("", "1 2 3", "1 " * 65, "x " * 64, "nan " * 64, "1," * 64, "1\0" * 64, "1 " * 63 + "1e999", "1 " * 3000):
            with self.subTest(text[:20]), tempfile.NamedTemporaryFile("w") as image:
                image.write(text)
                image.flush()
                self.check(2, "expected 64 numbers", classify([], image=image.name)[0])
        self.check(2, "No such file", classify([], image="/nowhere")[0])

    def test_bad_usage(self):
        for name in ("", "a/b", "..", "a b", "-x"):
            self.check(2, "not a model name", classify([], ("-m", name))[0])
        self.check(2, "usage:", subprocess.run([HERE / "classify"], capture_output=True, encoding="utf-8", check=False))

    def test_an_absent_agent(self):
        run = [HERE / "classify", "-s", "/nowhere/agent.sock", IMAGE]
        self.check(1, "/nowhere/agent.sock", subprocess.run(run, capture_output=True, encoding="utf-8", check=False))


if __name__ == "__main__":
    unittest.main()
