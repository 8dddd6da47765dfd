"""A cloud that costs nothing: stands on PATH as gcloud, gcluster and kubectl, and plays a script.

Every call is appended to `calls.jsonl` of the folder in $POD_CLOUD; `script.json` there says what
happens, and `world.json` what has happened so far. The script:

    workers    how many there are
    state      of the slice at first; MISSING unless it says so
    waits      how often a slice that was asked for is told to wait
    attempts   for each launch what polls find: a list of steps, of which the last stays. A step is
               a word for each worker ("running", an exit code, "gone": it cannot be reached, "old":
               the launch did not reach it), or "preempt", or "interrupt" (the caller gets SIGINT)
    saved      the newest checkpoint after each attempt
    doctor     what `mre doctor` says on all workers, and its exit code; all is well
    fail       [part of a call, exit code, what it says, how often]
    homes      folders: commands of ssh run for real, each worker's in its own; see `Real`
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

FOLDER = Path(os.environ["POD_CLOUD"])


def main() -> int:
    words = [Path(sys.argv[0]).name, *sys.argv[1:]]
    stdin = sys.stdin.read() if words[-1].endswith("=-") or words[-2:-1] == ["-"] else ""
    with (FOLDER / "calls.jsonl").open("a") as calls:
        calls.write(json.dumps({"words": words, "stdin": stdin}) + "\n")
    script = json.loads((FOLDER / "script.json").read_text())
    file = FOLDER / "world.json"
    fresh = {"state": script.get("state", "MISSING"), "fresh": True}
    fresh |= {"waits": 0, "attempts": [], "step": 0, "failed": {}}
    world = json.loads(file.read_text()) if file.exists() else fresh
    taken = FOLDER / "taken"
    if taken.exists():  # by the test, in the middle of something
        taken.unlink()
        world["state"] = "SUSPENDED"
        end(script)
    code = failure(words, script, world)
    if code is None:
        code = answer(words, script, world)
    file.write_text(json.dumps(world))
    return code


def failure(words, script, world):
    call = " ".join(words)
    for number, (part, code, said, times) in enumerate(script.get("fail", [])):
        done = world["failed"].get(str(number), 0)
        if part in call and done < times:
            world["failed"][str(number)] = done + 1
            print(said, file=sys.stderr)
            return code
    return None


def answer(words, script, world):
    if words[0] == "kubectl":
        return kubectl(words, script, world)
    if "queued-resources" in words:
        return queued(words, script, world)
    if "auth" in words:
        print(script.get("account", "somebody"))
    elif "buckets" in words:
        print(script.get("bucket", "US-WEST4"))
    elif words[1:3] == ["storage", "ls"]:
        return saved(script, world)
    elif words[1:4] == ["container", "node-pools", "list"]:
        print("\n".join(world.get("pools", [])))
    elif words[1:4] == ["container", "node-pools", "create"]:
        world["pools"] = [*world.get("pools", []), words[4]]
    return 0


def queued(words, script, world):
    verb = words[words.index("queued-resources") + 1]
    if verb == "create":
        world["state"], world["waits"] = "WAITING_FOR_RESOURCES", script.get("waits", 1)
        world["fresh"] = True
    elif verb == "describe":
        if world["state"] == "MISSING":
            print("ERROR: (gcloud) NOT_FOUND: no such queued resource", file=sys.stderr)
            return 1
        print(world["state"])
        if world["state"] == "WAITING_FOR_RESOURCES":
            world["waits"] -= 1
            if world["waits"] <= 0:
                world["state"] = "ACTIVE"
                begin(script)
    elif verb == "delete":
        world["state"] = "MISSING"
        end(script)
    elif verb in ("scp", "ssh") and "homes" in script and world["state"] != "ACTIVE":
        return 255
    elif verb == "scp" and "homes" in script:
        for home in script["homes"]:
            source, place = words[words.index("scp") + 1 :][:2]
            Path(home, place.partition(":")[2]).write_bytes(Path(source).read_bytes())
    elif verb == "ssh":
        command = next(word for word in words if word.startswith("--command="))[len("--command=") :]
        return ssh_for_real(command, script) if "homes" in script else ssh(command, script, world)
    return 0


def ssh(command, script, world):
    if world["state"] != "ACTIVE":
        return 255
    if " launch " in command:
        world["fresh"] = False
        name = re.search(r"ATTEMPT=(\S+)", command).group(1)
        if name not in world["attempts"]:
            world["attempts"].append(name)
            world["step"] = 0
    elif " preflight" in command:
        doctor = script.get("doctor", {"exit_code": 0, "says": "all is well"})
        print(doctor["says"])
        for worker in range(script["workers"]):
            print(f"mre-pod worker={worker} exit_code={doctor['exit_code']}")
    elif " poll" in command:
        return poll(script, world)
    return 0


def poll(script, world):
    if world["fresh"]:
        words, name = ["none"] * script["workers"], ""
    else:
        steps, name = script["attempts"][len(world["attempts"]) - 1], world["attempts"][-1]
        words = steps[min(world["step"], len(steps) - 1)]
        world["step"] += 1
    if words == "preempt":
        world["state"] = "SUSPENDED"
        return 255
    if words == "interrupt":
        os.kill(os.getppid(), signal.SIGINT)
        return 0
    for worker, word in enumerate(words):
        if word == "running":
            print(f"mre-pod worker={worker} state=running attempt={name}")
        elif word in ("none", "old"):
            print(f"mre-pod worker={worker} state=none")
        elif word != "gone":
            print(f"mre-pod worker={worker} state=ended attempt={name} exit_code={word}")
    return 255 if "gone" in words else 0


def saved(script, world):
    # Asked before the first attempt, and after each.
    steps = [None, *script.get("saved", [])]
    step = steps[min(len(world["attempts"]), len(steps) - 1)]
    if step is None:
        print("ERROR: One or more URLs matched no objects.", file=sys.stderr)
        return 1
    for number in (step // 2, step):
        print(f"gs://bucket/runs/r/checkpoints/{number}/commit_success.txt")
    return 0


def kubectl(words, script, world):
    if "apply" in words and "deployed" not in world:
        world["deployed"] = 0
    elif words[3:5] == ["get", "jobset"]:
        if "deployed" not in world:
            return 0
        statuses = script["statuses"]
        status = statuses[min(world["deployed"], len(statuses) - 1)]
        world["deployed"] += 1
        world["attempts"] = ["a"] * (1 + status.get("restarts", 0))
        print(json.dumps({"status": status}))
    elif words[3:5] == ["get", "pods"]:
        print(script.get("codes", ""))
    elif words[3:5] == ["get", "nodes"]:
        print("\n".join(f"node/{number}" for number in range(script["workers"])))
    elif words[3:5] == ["delete", "jobset"]:
        world.pop("deployed", None)
    return 0


def begin(script):
    """The machines of a slice that is made for real."""
    for home in script.get("homes", []):
        Path(home).mkdir(parents=True)


def end(script):
    """Machines that are taken away: nothing on them has time to save, and nothing stays."""
    for home in script.get("homes", []):
        if not Path(home).is_dir():
            return
    for home in script.get("homes", []):
        for file in Path(home).glob(".mre_pod/*/*/pid"):
            try:
                os.killpg(int(file.read_text()), signal.SIGKILL)
            except ProcessLookupError:
                continue
        shutil.rmtree(home)


def ssh_for_real(command, script):
    """The command on all workers at the same time, as a login would run it."""
    started = [
        subprocess.Popen(
            ["bash", "-c", command],
            cwd=home,
            env=os.environ | script["environment"] | {"HOME": home, **own},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        for home, own in zip(script["homes"], script["own"], strict=True)
    ]
    for process in started:
        print(process.communicate()[0], end="")
    return max(process.returncode for process in started)


if __name__ == "__main__":
    sys.exit(main())
