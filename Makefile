.POSIX:
.PHONY: help up demo test test-clients check bench chaos screenshots lock

# No step comes before these: each makes .venv, or brings it up to date, by itself.

help:
	@echo "make up     start Runfolio; Ctrl-C stops it (settings: see .env.example, or make up PORT=8001)"
	@echo "make demo   the same with believable history in it"
	@echo "make test   checks, then all tests"
	@echo "make test-clients  the real packages as clients: bindu, openhands-sdk, agentevals-cli and the OpenTelemetry"
	@echo "            SDK, each in an environment of its own (PARTS=\"bindu otel\" for some)"
	@echo "make check  lint, format, types, missing migrations"
	@echo "make bench  measure appends, lists, searches, deletion, the queue, pages, OpenTelemetry, files and streams"
	@echo "            (PARTS=\"append otlp\" for some)"
	@echo "make chaos  disturb workers and PostgreSQL, and look for damage (MINUTES=10 PARTS=--without-fence)"
	@echo "make screenshots  draw every page anew into docs/screenshots, light and dark, wide and narrow"
	@echo "make lock   pin the newest releases that pyproject.toml allows"

up:
	@exec sh project/start.sh requirements.txt manage.py up

demo:
	@exec sh project/start.sh requirements.txt manage.py up --demo

test:
	@exec sh project/start.sh requirements-dev.txt -m tests.run

test-clients:
	@exec sh project/start.sh requirements-dev.txt -m tests.clients $(PARTS)

check:
	@exec sh project/start.sh requirements-dev.txt -m tests.run --check

bench:
	@exec sh project/start.sh requirements-dev.txt -m bench $(PARTS)

MINUTES = 10

chaos:
	@exec sh project/start.sh requirements-dev.txt -m tests.chaos --minutes $(MINUTES) $(PARTS)

screenshots:
	@exec sh project/start.sh requirements-dev.txt -m tests.screenshots

# On Python 3.12, the oldest that is served; the pins hold for newer ones and for all platforms.
lock:
	python3.12 -m venv --clear .venv-lock
	.venv-lock/bin/python -m pip install --quiet pip-tools
	.venv-lock/bin/pip-compile $(LOCK) --output-file requirements.txt pyproject.toml
	.venv-lock/bin/pip-compile $(LOCK) --extra dev --constraint requirements.txt \
		--output-file requirements-dev.txt pyproject.toml

LOCK = --quiet --upgrade --generate-hashes --strip-extras --allow-unsafe --no-header \
	--no-emit-index-url --no-emit-find-links --no-emit-trusted-host
