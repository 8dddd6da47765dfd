"""The subcommands of `mre`, one file each: options become a spec, and the spec a call."""
