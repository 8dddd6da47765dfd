"""The paper's story in miniature, on this machine: `run_demo(DemoSpec())`.

A demo is data: `plan.py` lists its chapters, each of jobs that any caller or command has, and
`story.py` does them. `systems.py` says what is trained and how it is asked to edit.
"""
