"""Runs `mre` on Cloud TPU slices: thin verbs over gcloud, kubectl and gcluster.

What runs at the user's side is Python with the standard library alone, since there are states,
clocks, JSON and quoting; what runs on a worker, `worker.sh`, is bash, since there programs are
started before any environment exists.
"""
