"""A server on the loopback that plays the judge: chat completions, files and batches.

What it answers is said by the instruction of a question, as "429 [2] #7": behave so for the first
two requests of this very question, then answer well. See `_BEHAVIOURS`.
"""

import json
import re
import socket
import struct
import threading
import time
from collections import Counter
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MODEL = "gpt-4o-2024-08-06"
_INSTRUCTION = re.compile(r"Editing Instructions: (\S+) \[(\d+)\] #(\d+)")


class JudgeServer:
    """Counts what it is asked, answers as it is told.

    Attributes:
        requests: of chat completions, by instruction.
        latency: seconds before every completion.
        keys: Authorization headers that were seen.
        files, batches: of the Batch API, by id.
        outcomes: of the batches to come, in order: "completed", "no_output", "token_limit",
            "expired", "failed".
    """

    def __init__(self):
        self.requests = Counter()
        self.bodies = []
        self.latency = 0.0
        self.keys = set()
        self.files = {}
        self.batches = {}
        self.outcomes = []
        self.created = 0
        self.uploads = 0
        self.in_flight = 0
        self.most_in_flight = 0
        self.times = []
        self.lock = threading.Lock()
        self.closing = threading.Event()

    @property
    def url(self):
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self):
        handler = type("Handler", (_Handler,), {"judge": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(self, *error):
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def add_file(self, name, content):
        row = {
            "id": f"file_{len(self.files) + 1}",
            "object": "file",
            "bytes": len(content),
            "created_at": 0,
            "filename": name,
            "purpose": "batch",
            "status": "processed",
        }
        self.files[row["id"]] = row, content
        return row

    def work(self, batch, outcome):
        lines = self.files[batch["input_file_id"]][1].splitlines()
        if outcome in ("token_limit", "failed"):
            code = "token_limit_exceeded" if outcome == "token_limit" else "invalid_json_line"
            batch["status"] = "failed"
            batch["errors"] = {"object": "list", "data": [{"code": code, "message": outcome}]}
            return
        good, bad = [], []
        for number, line in enumerate(lines):
            request = json.loads(line)
            kind, instruction, times = _instruction(request["body"])
            self.requests[instruction] += 1
            kind = kind if self.requests[instruction] <= times else "ok"
            row = {"id": f"req_{number}", "custom_id": request["custom_id"]}
            if outcome == "no_output" or kind == "500":
                error = {"message": "The server had an error", "code": "server_error"}
                bad.append({**row, "response": {"status_code": 500, "body": {"error": error}}})
            elif outcome == "expired" and number % 2:
                bad.append(
                    {**row, "response": None, "error": {"code": "batch_expired", "message": "x"}}
                )
            else:
                response = {"status_code": 200, "body": completion(request["body"], kind)}
                good.append({**row, "response": response, "error": None})
        if outcome == "expired":
            batch["status"] = "expired"
        for name, rows in (("output_file_id", good[::-1]), ("error_file_id", bad)):
            if rows:
                content = "".join(json.dumps(row) + "\n" for row in rows).encode()
                batch[name] = self.add_file("answers.jsonl", content)["id"]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, request, client_address):
        pass  # a client that went away


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    judge: JudgeServer

    def log_message(self, *args):
        pass

    def do_POST(self):
        self.judge.keys.add(self.headers.get("Authorization"))
        data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path.endswith("/chat/completions"):
            self._complete(json.loads(data))
        elif self.path.endswith("/files"):
            self._upload(data)
        elif self.path.endswith("/batches"):
            self._create(json.loads(data))

    def do_GET(self):
        path = self.path.partition("?")[0].split("/v1")[1]
        judge = self.judge
        if path == "/files":
            rows = [row for row, _ in judge.files.values()]
            self._send(200, {"object": "list", "data": rows, "has_more": False})
        elif path.startswith("/files/"):
            self._send(200, judge.files[path.split("/")[2]][1])
        elif path == "/batches":
            rows = list(judge.batches.values())
            self._send(200, {"object": "list", "data": rows, "has_more": False})
        else:
            self._send(200, judge.batches[path.split("/")[2]])

    def _complete(self, body):
        judge = self.judge
        with judge.lock:
            judge.in_flight += 1
            judge.most_in_flight = max(judge.most_in_flight, judge.in_flight)
            judge.times.append(time.monotonic())
        try:
            if judge.latency:
                time.sleep(judge.latency)
            kind, instruction, number = _instruction(body)
            with judge.lock:
                judge.requests[instruction] += 1
                count = judge.requests[instruction]
            self._behave(kind if count <= number else "ok", body)
        finally:
            with judge.lock:
                judge.in_flight -= 1

    def _behave(self, kind, body):
        if kind in _STATUSES:
            status, error, headers = _STATUSES[kind]
            self._send(status, {"error": error}, headers)
        elif kind == "slow":
            judge.closing.wait(60)  # whoever asks has given up long before
            self._send(200, completion(body))
        elif kind == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()
        elif kind == "html":
            self._send(200, b"<html>busy</html>")
        else:
            self._send(200, completion(body, kind))

    def _upload(self, data):
        head = b"Content-Type: " + self.headers["Content-Type"].encode() + b"\r\n\r\n"
        for part in BytesParser().parsebytes(head + data).get_payload():
            if part.get_param("name", header="content-disposition") == "file":
                name, content = part.get_filename(), part.get_payload(decode=True)
        self.judge.uploads += 1
        row = self.judge.add_file(name, content)
        self._send(200, row)

    def _create(self, body):
        judge = self.judge
        judge.created += 1
        batch = {
            "id": f"batch_{judge.created}",
            "object": "batch",
            "status": "completed",
            "endpoint": body["endpoint"],
            "completion_window": "24h",
            "created_at": 0,
            "input_file_id": body["input_file_id"],
            "metadata": body.get("metadata"),
            "output_file_id": None,
            "error_file_id": None,
            "errors": None,
        }
        judge.batches[batch["id"]] = batch
        judge.work(batch, judge.outcomes.pop(0) if judge.outcomes else "completed")
        # Created, but not yet worked on, as the server says it.
        self._send(200, {**batch, "status": "validating", "output_file_id": None})

    def _send(self, status, content, headers=()):
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


def _instruction(body):
    text = next(p["text"] for p in body["messages"][-1]["content"] if p["type"] == "text")
    match = _INSTRUCTION.search(text)
    return (match[1], match[0], int(match[2])) if match else ("ok", text, 0)


def completion(body, kind="ok"):
    """A chat completion as the server's JSON."""
    choice = {
        "index": 0,
        "finish_reason": "stop",
        "message": {"role": "assistant", "content": answer(body), "refusal": None},
    }
    answered = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 0,
        "model": body["model"],
        "choices": [choice],
        "usage": {"prompt_tokens": 1000, "completion_tokens": 20, "total_tokens": 1020},
    }
    if kind in _CONTENTS:
        choice["message"]["content"] = _CONTENTS[kind]
    elif kind == "refusal":
        choice["message"] |= {"content": None, "refusal": "I cannot look at this."}
    elif kind in ("length", "content_filter"):
        choice["finish_reason"] = kind
    elif kind == "wrong_model":
        answered["model"] = "gpt-4o-mini-2024-07-18"
    elif kind == "no_choices":
        answered["choices"] = []
    elif kind == "no_usage":
        del answered["usage"]
    return answered


def answer(body):
    """A good answer, in the form of the schema or, without one, of the paper's dictionary."""
    text = next(p["text"] for p in body["messages"][-1]["content"] if p["type"] == "text")
    schema = body.get("response_format", {}).get("json_schema", {}).get("schema")
    if schema is None:
        return "```python\n{'score': 3, 'bad': 'It\\'s dark.'}\n```"
    values = {}
    for key, kind in schema["properties"].items():
        if kind["type"] == "string":
            values[key] = kind.get("enum", ['too "dark" 50 % \u2600'])[0]
        else:
            values[key] = kind["enum"][-2] if "enum" in kind else 3.5
    return json.dumps(values) if text else ""


_STATUSES = {
    "429": (429, {"message": "slow down", "code": "rate_limit_exceeded"}, [("Retry-After", "2")]),
    "429_long": (429, {"message": "later", "code": "rate_limit"}, [("Retry-After", "7200")]),
    "429_plain": (429, {"message": "slow down", "code": "rate_limit_exceeded"}, []),
    "no_money": (429, {"message": "quota", "code": "insufficient_quota"}, []),
    "500": (500, {"message": "oops"}, []),
    "503": (503, {"message": "busy"}, [("Retry-After", "1")]),
    "400": (400, {"message": "image is broken", "code": "invalid_image"}, []),
    "setting": (400, {"message": "no temperature", "param": "temperature", "code": "u"}, []),
    "400_filter": (400, {"message": "filtered", "code": "content_filter"}, []),
    "401": (401, {"message": "Incorrect API key provided: sk-canary0123456789abcdef"}, []),
    "403": (403, {"message": "not allowed"}, []),
    "404": (404, {"message": "no such model", "code": "model_not_found"}, []),
}
_CONTENTS = {
    "malformed": "The score is 4.",
    "out_of_range": '{"score": 6, "bad": "none"}',
    "extra_key": '{"score": 4, "bad": "none", "note": "x"}',
    "decimal": "{'score': 4.0, 'bad': 'none'}",
    "eval": "__import__('os').system('touch /tmp/mre_pwned')",
}
