"""Serves a folder over HTTP on loopback until it is stopped: `serve.py DIR`. Prints the port, then `ready`."""

import functools
import http.server
import sys


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format, *args):
        sys.stderr.write(f"{format % args}\n")


handler = functools.partial(Quiet, directory=sys.argv[1])
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
print(f"port: {server.server_address[1]}", flush=True)
print("ready", flush=True)
server.serve_forever()
