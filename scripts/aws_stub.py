"""A stub of a few calls of AWS's API, for tests: real clients of boto3 connect to it over HTTP."""

import http.server
import json
import threading
import urllib.parse
from xml.sax.saxutils import escape

# boto3's protocols: a form and XML, JSON, or paths.
FORM_ERROR = "<ErrorResponse><Error><Code>{}</Code><Message>{}</Message></Error></ErrorResponse>"
EC2_ERROR = "<Response><Errors><Error><Code>{}</Code><Message>{}</Message></Error></Errors></Response>"


class Failure(Exception):
    """An error answer of a call."""

    def __init__(self, code, message="", status=400):
        super().__init__(code)
        self.code, self.message, self.status = code, message, status


class AwsStub:
    """Serves calls by `answers`: a map of operations to functions of the input, which return JSON-like data or XML text, or
    raise `Failure`. Records the operations in `calls`."""

    def __init__(self, answers):
        self.answers, self.calls = answers, []
        stub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.answer("")

            def do_POST(self):
                self.answer(self.rfile.read(int(self.headers.get("content-length", 0))).decode())

            def answer(self, body):
                kind, operation, given = stub.call(self.path, self.headers, body)
                stub.calls.append(operation)
                status, kind_of_body, text = stub.result(kind, operation, given)
                self.send_response(status)
                self.send_header("content-type", kind_of_body)
                self.send_header("content-length", str(len(text.encode())))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    @staticmethod
    def call(path, headers, body):
        """Returns (protocol, operation, input)."""
        if target := headers.get("x-amz-target"):
            return "json", target.rpartition(".")[2], json.loads(body or "{}")
        if "Action=" in body:
            form = dict(urllib.parse.parse_qsl(body))
            return ("ec2" if "2016-11-15" in form["Version"] else "form"), form["Action"], form
        return ("rest-xml" if "hostedzone" in path else "rest-json"), path.split("?")[0], {}

    def result(self, kind, operation, given):
        try:
            if operation not in self.answers:
                raise Failure("AccessDenied", f"no answer to {operation}", 403)
            answer = self.answers[operation](given)
        except Failure as failure:
            if kind in ("json", "rest-json"):
                error = {"__type": failure.code, "code": failure.code, "message": failure.message}
                return failure.status, "application/json", json.dumps(error)
            template = EC2_ERROR if kind == "ec2" else FORM_ERROR
            return failure.status, "text/xml", template.format(failure.code, escape(failure.message))
        if kind in ("json", "rest-json"):
            return 200, "application/json", json.dumps(answer)
        if kind == "form":
            answer = f"<{operation}Response><{operation}Result>{answer}</{operation}Result></{operation}Response>"
        if kind == "ec2":
            answer = f"<{operation}Response>{answer}</{operation}Response>"
        return 200, "text/xml", answer
