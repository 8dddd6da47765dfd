"""A server on the loopback that plays the judge: chat completions, files and batches.

What it answers is said by the instruction of a question, as "429 [2] #7": behave so for the first
two requests of this very question, then answer well. See `_BEHAVIOURS`.
"""

import gzip
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

_FLAG = re.compile(r"keys '(following|consistent|clear)' and 'score'")


class JudgeServer:
    """Counts what it is asked, answers as it is told.

    Attributes:
        requests: of chat completions, by instruction.
        latency: seconds before every completion.
        has_batches: whether it is a server of the Batch API at all.
        keys: Authorization headers that were seen.
        files, batches: of the Batch API, by id.
        outcomes: of the batches to come, in order: "completed", "no_output", "token_limit",
            "expired", "failed".
        refuses: called with the body of every completion; what it gives, status and error, is the
            answer.
        answers: the content of every answer, if it is not to be a good one.
        lines: what is put into every file of answers besides.
    """

    def __init__(self):
        self.requests = Counter()
        self.bodies = []
        self.latency = 0.0
        self.has_batches = True
        self.keys = set()
        self.files = {}
        self.batches = {}
        self.outcomes = []
        self.refuses = lambda body: None
        self.answers = None
        self.lines = b""
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
            elif kind in _STATUSES:
                status, error, _ = _STATUSES[kind]
                response = {"status_code": status, "body": {"error": error}}
                bad.append({**row, "response": response})
            else:
                response = {"status_code": 200, "body": completion(request["body"], kind)}
                good.append({**row, "response": response, "error": None})
        if outcome == "expired":
            batch["status"] = "expired"
        for name, rows in (("output_file_id", good[::-1]), ("error_file_id", bad)):
            if rows:
                text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
                content = self.lines + text.encode()
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
        if self.path.endswith(("/chat/completions", "/responses")):
            self._complete(json.loads(data))
        elif not self.judge.has_batches:
            self._send(404, {"detail": "Not Found"})
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
            judge.bodies.append(body)
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
            refusal = judge.refuses(body)
            if refusal is not None:
                self._send(*refusal)
            else:
                self._behave(kind if count <= number else "ok", body)
        finally:
            with judge.lock:
                judge.in_flight -= 1

    def _behave(self, kind, body):
        if kind in _STATUSES:
            status, error, headers = _STATUSES[kind]
            self._send(status, error if isinstance(error, bytes) else {"error": error}, headers)
        elif kind == "slow":
            judge.closing.wait(60)  # whoever asks has given up long before
            self._send(200, completion(body))
        elif kind == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()
        elif kind in _BODIES:
            self._send(200, *_BODIES[kind](completion(body)))
        else:
            reply = completion(body, kind)
            if self.judge.answers is not None:
                reply["choices"][0]["message"]["content"] = self.judge.answers
            self._send(200, reply)

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
    text = _asked(body)
    match = _INSTRUCTION.search(text)
    return (match[1], match[0], int(match[2])) if match else ("ok", text, 0)


def _asked(body):
    parts = (body.get("messages") or body["input"])[-1]["content"]
    return next(p["text"] for p in parts if p["type"] in ("text", "input_text"))


def response(body, kind="ok"):
    """A response of the Responses API as the server's JSON."""
    content = {"type": "output_text", "text": _CONTENTS.get(kind, answer(body)), "annotations": []}
    answered = {
        "id": "resp_1",
        "object": "response",
        "created_at": 0,
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "model": body["model"],
        "output": [
            {"type": "reasoning", "id": "rs_1", "summary": []},
            {"type": "message", "id": "msg_1", "role": "assistant", "content": [content]},
        ],
        "usage": {"input_tokens": 1000, "output_tokens": 20, "total_tokens": 1020},
    }
    if kind == "refusal":
        answered["output"][1]["content"] = [{"type": "refusal", "refusal": "I cannot look."}]
    elif kind in ("length", "thought_only"):
        details = {"reason": "max_output_tokens"}
        answered |= {"status": "incomplete", "incomplete_details": details}
        answered["output"] = answered["output"][:1]
    elif kind == "content_filter":
        answered |= {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}
        answered["output"] = []
    elif kind == "500":
        error = {"code": "server_error", "message": "oops"}
        answered |= {"status": "failed", "error": error, "output": []}
    return answered


def completion(body, kind="ok"):
    """A chat completion as the server's JSON."""
    if "input" in body:
        return response(body, kind)
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
        choice["message"]["content"] = answer(body)[:-5]
    elif kind == "length_whole":
        choice["finish_reason"] = "length"
    elif kind == "thought_only":
        choice["finish_reason"] = "length"
        choice["message"] |= {"content": "", "reasoning_content": "The second picture"}
    elif kind == "thought_unclosed":
        choice["finish_reason"] = "length"
        choice["message"]["content"] = "<think>The second picture"
    elif kind == "no_answer":
        choice["message"] |= {"content": None, "reasoning_content": "Snow. A four, I would say."}
    elif kind == "answer_as_thought":
        choice["message"] |= {"content": None, "reasoning_content": answer(body)}
    elif kind == "parts":
        thought = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
        choice["message"]["content"] = [thought, {"type": "text", "text": answer(body)}]
    elif kind == "tool":
        call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": answer(body)}}
        choice["message"] |= {"content": None, "tool_calls": [call]}
    elif kind == "empty":
        choice["message"]["content"] = ""
    elif kind == "two_choices":
        answered["choices"] = [choice, {**choice, "index": 1}]
    elif kind == "two_answers":
        other = {"role": "assistant", "content": '{"score": 1, "bad": "no"}'}
        answered["choices"] = [choice, {**choice, "index": 1, "message": other}]
    elif kind == "wrong_model":
        answered["model"] = "gpt-4o-mini-2024-07-18"
    elif kind == "no_choices":
        answered["choices"] = []
    elif kind == "no_usage":
        del answered["usage"]
    return answered


def answer(body):
    """A good answer, in the form of the schema or, without one, of the paper's dictionary."""
    form = body.get("text", {}).get("format") or body.get("response_format", {}).get("json_schema")
    schema = (form or {}).get("schema")
    if schema is None and (flag := _FLAG.search(json.dumps(body))):
        return f"{{'{flag[1]}': 'yes', 'score': 4.5}}"
    if schema is None:
        return "```python\n{'score': 3, 'bad': 'It\\'s dark.'}\n```"
    values = {}
    for key, kind in schema["properties"].items():
        if kind["type"] == "string":
            values[key] = kind.get("enum", ['too "dark" 50 % \u2600'])[0]
        else:
            values[key] = 3.5 if kind["type"] == "number" else 4
    return json.dumps(values)


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
    "gateway": (502, b"<html><title>502 Bad Gateway</title></html>", []),
    "401": (401, {"message": "Incorrect API key provided: sk-canary0123456789abcdef"}, []),
    "403": (403, {"message": "not allowed"}, []),
    "404": (404, {"message": "no such model", "code": "model_not_found"}, []),
}
_GOOD = '{"score": 4, "bad": "x"}'
_CONTENTS = {
    "malformed": "The score is 4.",
    "out_of_range": '{"score": 6, "bad": "none"}',
    "two_objects": f'{_GOOD} or rather {{"score": 3, "bad": "x"}}',
    "fraction": '{"score": "4/5", "bad": "none"}',
    "nan": '{"score": NaN, "bad": "none"}',
    "half": '{"score": 4.3, "bad": "none"}',
    "eval": "__import__('os').system('touch /tmp/mre_pwned')",
    "sorry": "I'm sorry, but I can't assist with that.",
    "extra_key": '{"score": 4, "bad": "none", "note": "x"}',
    "decimal": "{'score': 4.0, 'bad': 'none'}",
    "numstr": '{"score": "4", "bad": "none"}',
    "newline": '{"score": 4, "bad": "line one\nline two"}',
    "think": f"<think>\nMore {{snow}}.\n</think>\n\n{_GOOD}",
    "chatty": f"Here is my evaluation:\n```json\n{_GOOD}\n```\nLet me know if you need more.",
    "listed": f"[{_GOOD}]",
    "quoted": json.dumps(_GOOD),
    "separators": '{"score": 4, "bad": "a\u2028b\u0085c"}',
    "surrogate": '{"score": 4, "bad": "x", "note": "\ud83d"}',
}


def _stream(completion):
    """The events of a stream, a few letters each."""
    text = completion["choices"][0]["message"]["content"]
    parts = [text[at : at + 7] for at in range(0, len(text), 7)]
    deltas = [{"index": 0, "delta": {"content": part}, "finish_reason": None} for part in parts]
    deltas.append({"index": 0, "delta": {}, "finish_reason": "stop"})
    events = [{"model": completion["model"], "choices": [delta]} for delta in deltas]
    events.append({"model": completion["model"], "choices": [], "usage": completion["usage"]})
    lines = [f"data: {json.dumps(event, ensure_ascii=False)}\r\n\r\n" for event in events]
    return "".join([*lines, "data: [DONE]\n\n"]).encode(), [("X-Type", "text/event-stream")]


_BODIES = {
    "html": lambda made: (b"<html>busy</html>", []),
    "nothing": lambda made: (b"", []),
    "stream": _stream,
    "bom": lambda made: (b"\xef\xbb\xbf" + json.dumps(made).encode(), []),
    "gzip": lambda made: (gzip.compress(json.dumps(made).encode()), [("Content-Encoding", "gzip")]),
    "nan_beside": lambda made: (json.dumps({**made, "logprob": float("nan")}).encode(), []),
    "error_in_200": lambda made: (b'{"error": {"message": "upstream", "code": 503}}', []),
    "list_body": lambda made: (b"[1]", []),
}
