"""An editor that trains on its own edits, judged: a loop over jobs that exist.

A round has the editor edit pictures of its training sets at the best reward, has a judge score
these edits, adds them as triplets with their rewards, and trains on.

    OUT/improve.json       what the loop was begun with; other settings are refused
    OUT/held_out.json      what was compared: no held-out picture stands in a training set
    OUT/evaluation/        held-out edits of every model, and their scores (mre evaluate real-edit)
    OUT/round-1/           the first round
        samples/           originals/ and items.jsonl; the edits of them (mre sample)
        scores/            edits.jsonl, a table of them; judge.jsonl, rewards.json (mre annotate);
                           judged.jsonl, the table of those with a reward, who gave it included
        set/               these as shards (mre prepare), cached as the training sets are
        run/, model/       training on the sets and the own edits of all rounds (mre train, export)
        control/           of as many steps without own edits: run/, model/
        round.json         what came of it
    OUT/round-2/ ...

Each stage is a call of the room that does it, and is done when its last file is there. A loop that
was killed anywhere goes on by the same call, to the same bytes.
"""
