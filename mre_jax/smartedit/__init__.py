"""The language side of SmartEdit (Huang et al. 2024): tokens, prompts, replies and their loss.

SmartEdit asks a language model that sees the picture to reply to an instruction, and edits with the
states of the 32 image tokens of that reply. A reply is either given (teacher-forced, one forward
pass) or sampled.
"""
