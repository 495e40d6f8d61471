"""A month of believable history, to look at Runfolio with: `manage.py load_demo`, and `make demo`.

`story` is how a run is told, `agents` tell them, `calendar` says when, `load` writes it all.
"""
