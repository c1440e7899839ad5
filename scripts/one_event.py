"""Runs a function's binary on one event, over a Lambda Runtime API on the loopback."""

import json
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECONDS_MAX = 30


class RuntimeApi(BaseHTTPRequestHandler):
    """Returns the server's event once; any answer of the function ends the run."""

    def do_GET(self):
        if self.server.taken.is_set():
            self.server.answered.wait(SECONDS_MAX)
            return
        self.server.taken.set()
        self.send_response(200)
        self.send_header("Lambda-Runtime-Aws-Request-Id", "00000000-0000-0000-0000-000000000000")
        self.send_header("Lambda-Runtime-Deadline-Ms", str(int((time.time() + SECONDS_MAX) * 1_000)))
        self.send_header("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:us-east-1:000000000000:function:f")
        self.end_headers()
        self.wfile.write(json.dumps(self.server.event).encode())

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(202)
        self.end_headers()
        self.server.answered.set()

    # A custom resource puts its answer to CloudFormation here.
    do_PUT = do_POST

    def log_message(self, *_):
        """Logs nothing."""


def output_of(binary, environment, event):
    """Returns the output of a function until it has answered the event. `{api}` in the event is this API's address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), RuntimeApi)
    server.daemon_threads = True
    address = f"127.0.0.1:{server.server_port}"
    server.event = {key: value.replace("{api}", address) for key, value in event.items()}
    server.taken, server.answered = threading.Event(), threading.Event()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    lambda_environment = {
        "AWS_LAMBDA_RUNTIME_API": address,
        "AWS_LAMBDA_FUNCTION_NAME": "f",
        "AWS_LAMBDA_FUNCTION_VERSION": "1",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
        "AWS_REGION": "us-east-1",
    }
    process = subprocess.Popen(
        [binary], env=environment | lambda_environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    # A function that exits by itself has printed its reason.
    while not server.answered.wait(0.05) and process.poll() is None:
        pass
    process.kill()
    server.shutdown()
    return process.communicate()[0]
