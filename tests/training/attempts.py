"""What the events of a run say of its last attempt."""


def exit_reason(events):
    """How the last attempt ended, for a person; from `RunDirectory.events`."""
    if not events:
        return "never started"
    last = events[-1]
    if last["event"] == "stop":
        return f"{last['reason']} (exit code {last['exit_code']})"
    return f"killed or still running, last heard of at {last['time']}: {last['event']}"
