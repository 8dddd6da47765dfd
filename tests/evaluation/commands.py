"""Running a command of the evaluation as `mre` does."""

import argparse

from mre_jax.commands import evaluate as evaluate_command


def run(command, *arguments):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args([str(argument) for argument in arguments]))


def evaluate(suite, *arguments):
    return run(evaluate_command, suite, *arguments)
