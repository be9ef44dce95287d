"""What schemathesis does besides its own checks: requests that the real model can answer, two checks of ours, and a count."""

import atexit
import itertools
import json
import os
import re
import threading
import zlib
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import schemathesis

MODEL = "smollm2-135m-instruct"
JUDGE = "gram-smollm2-135m"
# Operations that only a reward model can answer.
JUDGED = {"compareResponses", "rankResponses", "scoreResponses", "rerankDocuments", "rerankDocumentsForJina", "scoreTexts"}
# A CPU writes tens of tokens a second, and thousands of requests are made.
MAX_TOKENS = 3
TOKEN_FIELDS = ("max_tokens", "max_completion_tokens")
LARGEST_CONTEXT = 8192
# The project and key that the run itself uses: changing them would turn every later answer into a refusal.
OWN_IDS = ("prj_00000000000000000000000000", "key_00000000000000000000000000")

# 503 that `test/contract/errors.json` has for a backend that is busy or away.
BUSY_CODES = {"server_is_overloaded", "model_loading", "backend_unavailable"}
# What only a stack, a file of ours, an address of ours or a database's own message holds.
INSIDE = re.compile(
    r"Traceback \(most recent call last\)|\.(?:py|ts|mjs)[\"']?, line \d|\.(?:ts|js|mjs):\d+:\d+|site-packages|node_modules"
    r"|gpu_backend[./]|/functions/|/internal/|file:///|\bD1_|SQLITE_|ZodError|RuntimeError:|TypeError:"
)

# A right key that was used before hides everything behind a 409; some stay, for the replay and the conflict.
RIGHT_KEY = re.compile(r"[\x21-\x7e]{1,200}")
KEPT_KEY_EACH = 16

# Ids of stored answers, which nobody can guess: the next read or deletion of one asks for it; of steps the links do that.
stored_ids: list[str] = []

call_numbers = itertools.count()
counts: dict[str, Counter[int]] = defaultdict(Counter)
step_counts: dict[str, Counter[int]] = defaultdict(Counter)
lock = threading.Lock()


@schemathesis.hook
def before_load_schema(_context: Any, raw_schema: dict[str, Any]) -> None:
    """Leaves out two schemas that say `string` of a text, where schemathesis looks at what the text holds.

    OpenAPI 3.1 has no word for the events of a stream; `test/contract/` and the stories hold them to theirs. An edge test compares the YAML with the JSON.
    """
    for operation in (operation for methods in raw_schema["paths"].values() for operation in methods.values()):
        for answer in operation["responses"].values():
            for media_type in ("text/event-stream", "application/yaml"):
                answer.get("content", {}).get(media_type, {}).pop("schema", None)


@schemathesis.hook
def before_call(_context: Any, case: Any, _kwargs: dict[str, Any]) -> None:
    """Names a real model in two of three requests that name any, keeps answers short, and lets keys be new and the run's own stay."""
    if isinstance(case.body, dict):
        body = dict(case.body)
        if isinstance(body.get("model"), str) and zlib.crc32(repr(body).encode()) % 3 != 0:
            body["model"] = JUDGE if operation_id(case) in JUDGED else MODEL
        if operation_id(case) == "createChatCompletion":
            keep_short(body)
            # A next step reads the answer, which is there only if it is stored.
            body["store"] = True if is_step(case) else body.get("store", True)
        case.body = body
    number, key = next(call_numbers), (case.headers or {}).get("Idempotency-Key")
    if isinstance(key, str) and RIGHT_KEY.fullmatch(key) and number % KEPT_KEY_EACH != 0:
        case.headers["Idempotency-Key"] = f"{key}-{number}"
    parameters = case.path_parameters or {}
    with lock:
        takes_stored_id = operation_id(case) in ("readChatCompletion", "deleteChatCompletion") and not is_step(case)
        if takes_stored_id and number % 2 == 0 and stored_ids:
            is_last_use = operation_id(case) == "deleteChatCompletion"
            case.path_parameters = {**parameters, "id": stored_ids.pop() if is_last_use else stored_ids[-1]}
    if case.method.upper() != "GET" and parameters.get("id") in OWN_IDS:
        case.path_parameters = {**parameters, "id": f"{parameters['id'][:-1]}1"}


def operation_id(case: Any) -> str:
    """What the specification calls the operation of a request."""
    return case.operation.definition.raw["operationId"]


def is_step(case: Any) -> bool:
    """Whether a request is one of several that follow each other by the links of the specification."""
    return case.meta is not None and case.meta.phase.name == "stateful"


def keep_short(body: dict[str, Any]) -> None:
    """Lowers limits on tokens that the server would accept; a wrong limit stays as wrong as it is."""
    if not any(name in body for name in TOKEN_FIELDS):
        body["max_tokens"] = MAX_TOKENS
    for name in TOKEN_FIELDS:
        value = body.get(name, 0)
        if value is None or (type(value) is int and MAX_TOKENS < value <= LARGEST_CONTEXT):
            body[name] = MAX_TOKENS


@schemathesis.hook
def after_call(_context: Any, case: Any, response: Any) -> None:
    """Counts the answer, for the story that asks whether every operation was tried, and remembers what it stored."""
    with lock:
        counts[operation_id(case)][response.status_code] += 1
        if is_step(case):
            step_counts[operation_id(case)][response.status_code] += 1
    media_type = response.headers.get("content-type", [""])[0]
    if operation_id(case) == "createChatCompletion" and response.status_code == 200 and "json" in media_type:
        stored_ids.append(response.json()["id"])


@schemathesis.check
def no_server_error(_context: Any, response: Any, _case: Any) -> None:
    """A 5xx is a fault, unless it says with its code that the backend is busy."""
    if response.status_code >= 500:
        code = response.json()["error"]["code"]
        assert response.status_code == 503, f"{response.status_code} {code}"
        assert code in BUSY_CODES, code


@schemathesis.check
def tells_nothing_of_the_inside(_context: Any, response: Any, case: Any) -> None:
    """No traceback, no file or address of ours, and nothing in the shape of the backend's own framework."""
    if case.operation.path.startswith(("/docs", "/openapi")):
        # Programs and the specification itself, written by us, and the same for everybody.
        return
    found = INSIDE.search(response.text)
    assert found is None, f"the answer holds {found.group()!r}"
    if "json" in response.headers.get("content-type", [""])[0]:
        body = response.json()
        holders = [body, body.get("error")] if isinstance(body, dict) else []
        assert not any(isinstance(holder, dict) and "detail" in holder for holder in holders), "the answer has a 'detail'"


@atexit.register
def write_counts() -> None:
    """Tells which statuses each operation answered with, and how often: in all, and in steps that follow each other."""
    if "SCHEMA_COUNTS" in os.environ:
        told = json.dumps({"all": counts, "steps": step_counts})
        Path(os.environ["SCHEMA_COUNTS"]).write_text(told, encoding="utf-8")
