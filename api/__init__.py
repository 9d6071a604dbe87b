"""The manager: it knows which stations exist and how they are, and starts playbook runs.

One file a resource. `app` puts them together, `manager` holds what they share.
"""
