"""A stdio server written by hand: what it does is named by the tool, and told in a ledger.

It answers `initialize`, `ping`, `tools/list` and `tools/call`; every call is written to the file that
LEDGER names before anything else happens.
"""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

LEDGER = Path(os.environ["LEDGER"])
TOOLS = [
    {"name": name, "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": reads}}
    for name, reads in (("look", True), ("write", False), ("once", True))
]


def write(text):
    with LEDGER.open("a") as ledger:
        ledger.write(text + "\n")


def say(message):
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def tell(number, text):
    say({"id": number, "result": {"content": [{"type": "text", "text": text}]}})


def babble(act):
    """Write what is no message."""
    if act == "garbage":
        print("Traceback: this is no message\n{broken\n[1, 2]\n42", flush=True)
    if act == "bytes":
        sys.stdout.buffer.write(b'\xff\xfe\x00 {"id": 1}\n\r\n\n')
        sys.stdout.flush()
    if act == "loud":
        for number_of_line in range(20_000):
            print("canary", number_of_line, "x" * 100, file=sys.stderr)


def call(number, params):
    name, arguments = params["name"], params.get("arguments", {})
    token = params.get("_meta", {}).get("progressToken")
    write(f"{os.getpid()} {name} {json.dumps(arguments)}")
    act = arguments.get("act")
    if act == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if act == "die_once" and LEDGER.read_text().count(f" {name} ") == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if act == "close":
        sys.stdout.flush()
        os.close(1)
        time.sleep(60)
    babble(act)
    if act == "huge":
        big = "x" * (17 << 20)
        if arguments.get("where") == "answer":
            tell(number, big)
            return
        print(big, flush=True)
    if act == "ask":
        say({"id": 7, "method": "roots/list"})
        return
    if act == "notify":
        say({"method": "notifications/tools/list_changed"})
    if token is not None:
        for step in (1, 2):
            say(
                {
                    "method": "notifications/progress",
                    "params": {"progressToken": token, "progress": step},
                }
            )
    if act == "wait":
        while not Path(arguments["file"]).exists():
            time.sleep(0.01)
    tell(number, f"{os.getpid()} {arguments.get('say', '')}")


def answer(message):
    method, number = message.get("method"), message.get("id")
    if method is None:
        write(f"{os.getpid()} answered {json.dumps(message.get('result'))}")
    elif method == "initialize":
        result = {
            "protocolVersion": message["params"]["protocolVersion"],
            "capabilities": {"tools": {"listChanged": True}},
            "serverInfo": {"name": "plain", "version": "1"},
        }
        say({"id": number, "result": result})
    elif method == "tools/list":
        say({"id": number, "result": {"tools": TOOLS}})
    elif method == "tools/call":
        threading.Thread(target=call, args=(number, message["params"]), daemon=True).start()
    elif number is not None:
        say({"id": number, "result": {}})
    elif method == "notifications/cancelled":
        write(f"{os.getpid()} cancelled {message['params']['requestId']}")


if __name__ == "__main__":
    names = ("MCP_ADMIN_TOKEN", "REDIS_URL", "OWN_SECRET")
    write(f"{os.getpid()} began {[name for name in names if name in os.environ]}")
    if "stubborn" in sys.argv:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "exclusive" in sys.argv:
        lock = Path(f"{LEDGER}.lock")
        lock.touch(exist_ok=False)
    if "choking" in sys.argv:
        # it dies in the middle of a large message
        while line := sys.stdin.buffer.readline(100_000):
            if not line.endswith(b"\n"):
                write(f"{os.getpid()} choked")
                os.kill(os.getpid(), signal.SIGKILL)
            answer(json.loads(line))
    if "at_once" in sys.argv:
        sys.exit(3)
    for line in sys.stdin:
        answer(json.loads(line))
    if "exclusive" in sys.argv:
        lock.unlink()
    write(f"{os.getpid()} ended")
    if "stubborn" in sys.argv:
        time.sleep(600)
