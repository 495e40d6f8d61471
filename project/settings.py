"""Every setting of Runfolio; .env.example lists those that come from the environment."""

import importlib.util
import os
import sys
from pathlib import Path

from dotenv import load_dotenv

from project import env, postgres
from project.env import SettingError
from runs.outgoing import parse_allow

BASE_DIR = Path(__file__).resolve().parent.parent
load_dotenv(os.environ.get("ENV_FILE", BASE_DIR / ".env"))

# ── Where it runs ──────────────────────────────────────────────────────────
HOST = env.text("HOST", "127.0.0.1")
PORT = env.integer("PORT", 8000, 1, 65535)
OTLP_PORT = env.integer("OTLP_PORT", 0, 0, 65535)  # 0: OpenTelemetry on PORT alone
LOOPBACK = HOST in ("127.0.0.1", "localhost", "::1")
if not LOOPBACK and not env.text("PUBLIC_URL"):
    raise SettingError(
        f"HOST={HOST} opens Runfolio to others. Set PUBLIC_URL=https://… to the address they use."
    )
_public = env.public_url("PUBLIC_URL", f"http://127.0.0.1:{PORT}")
PUBLIC_URL = f"{_public.scheme}://{_public.netloc}"
SECURE = _public.scheme == "https"
TRUSTED_PROXIES = env.networks("TRUSTED_PROXIES")

ALLOWED_HOSTS = [_public.hostname or "", *env.LOOPBACK_HOSTS]
CSRF_TRUSTED_ORIGINS = [PUBLIC_URL]
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE
# Cookies know no ports: two instances on one machine must not sign each other's people out.
_cookie = "__Host-runfolio" if SECURE else f"runfolio-{PORT}"
SESSION_COOKIE_NAME, CSRF_COOKIE_NAME = f"{_cookie}-session", f"{_cookie}-csrf"
SESSION_COOKIE_AGE = 30 * 24 * 3600
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = True
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")  # project.wsgi drops it from strangers
SECURE_HSTS_SECONDS = 365 * 24 * 3600 if SECURE else 0
CSRF_FAILURE_VIEW = "runs.errors.csrf_failure"
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"

# ── Where it keeps things ──────────────────────────────────────────────────
RUNFOLIO_DATA = Path(env.text("RUNFOLIO_DATA", str(postgres.default_data(BASE_DIR)))).absolute()
STORAGE_TYPE = env.choice("STORAGE_TYPE", "postgres", ("postgres", "memory"))
if STORAGE_TYPE == "memory":
    RUNFOLIO_DATA /= "memory"  # emptied at start and stop, so never the folder that is to be kept
RUN_MIGRATIONS_ON_STARTUP = env.boolean(
    "RUN_MIGRATIONS_ON_STARTUP", env.boolean("STORAGE__RUN_MIGRATIONS_ON_STARTUP", True)
)
DEBUG = env.boolean("DEBUG", False)

_given = env.database("DATABASE_URL")
EMBEDDED = _given is None
_running = postgres.address(RUNFOLIO_DATA) if EMBEDDED else None
if _given is None:
    _app, _owner = (env.database_from_url(url) for url in _running or postgres.NOT_RUNNING)
else:
    _app, _owner = _given, env.database("DATABASE_MIGRATE_URL") or _given
_app, _owner = env.vigilant(_app), env.vigilant(_owner)
DATABASE_POOL_SIZE = env.integer("DATABASE_POOL_SIZE", 16, 0, 500)
if DATABASE_POOL_SIZE and (_given or _running):
    _pool = {"min_size": 1, "max_size": DATABASE_POOL_SIZE, "timeout": 10}
    _app["OPTIONS"] = {**_app["OPTIONS"], "pool": _pool}  # type: ignore[dict-item]
_app["CONN_HEALTH_CHECKS"] = True
# Two roles: `default` serves and works, `owner` migrates (DESIGN.md 3.2).
DATABASES = {"default": _app, "owner": {**_owner, "TEST": {"MIRROR": "default"}}}


def _secret_key() -> str:
    """The key given, else the one that the first start left in the data folder; none is built in."""
    if given := env.text("SECRET_KEY"):
        return given
    kept = RUNFOLIO_DATA / "secret_key"
    if kept.exists():
        return kept.read_text().strip()
    if EMBEDDED or not {"gunicorn", "worker"} & {Path(word).name for word in sys.argv}:
        return os.urandom(32).hex()  # `manage.py up` writes the kept one before it serves
    raise SettingError("SECRET_KEY is not set. Set it to 50 random characters, the same on every machine.")


SECRET_KEY = _secret_key()
SECRET_KEY_IS_KEPT = bool(env.text("SECRET_KEY")) or (RUNFOLIO_DATA / "secret_key").exists()
SECRET_KEY_FALLBACKS = env.words("SECRET_KEY_FALLBACKS")

# ── The application ────────────────────────────────────────────────────────
INSTALLED_APPS = [
    "runs",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.postgres",
    "django.contrib.staticfiles",
    "django_htmx",
    "pgtrigger",
    "ninja",
    "axes",
]
MIDDLEWARE = [
    "runs.middleware.RequestId",
    "django.middleware.security.SecurityMiddleware",
    "runs.middleware.Compression",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "runs.middleware.Refusals",
    "runs.middleware.DatabaseErrors",
    "django.middleware.csp.ContentSecurityPolicyMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "runs.middleware.SignInFirst",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "axes.middleware.AxesMiddleware",
]
ROOT_URLCONF = "project.urls"
WSGI_APPLICATION = "project.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
            "builtins": ["runs.templatetags.look"],
        },
    }
]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# ── People ─────────────────────────────────────────────────────────────────
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
AUTH_USER_MODEL = "runs.User"
LOGIN_URL, LOGIN_REDIRECT_URL, LOGOUT_REDIRECT_URL = "sign_in", "run_list", "sign_in"
AXES_FAILURE_LIMIT = 10
AXES_COOLOFF_TIME = 0.25  # hours
AXES_RESET_ON_SUCCESS = True
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_LOCKOUT_CALLABLE = "runs.pages.sign_in.locked_out"
AXES_IPWARE_PROXY_COUNT = None  # project.wsgi has settled REMOTE_ADDR already
AXES_VERBOSE = False

# ── What leaves and what enters ────────────────────────────────────────────
OUTGOING_ALLOW = env.words("OUTGOING_ALLOW")
try:
    parse_allow(OUTGOING_ALLOW)
except ValueError as error:
    raise SettingError(str(error)) from None
SPEC_ENV_ALLOW = env.words("SPEC_ENV_ALLOW")
SINK_FOLDERS = env.folders("SINK_FOLDERS")
# Downloads and other long answers that one web process gives at a time, of its 32 threads (DESIGN.md 6).
MAX_STREAMS = env.integer("MAX_STREAMS", 16, 1, 1024)
MAX_BODY_BYTES = env.integer("MAX_BODY_BYTES", 50 * 2**20, 2**16, 2**30)
DATA_UPLOAD_MAX_MEMORY_SIZE = MAX_BODY_BYTES
FILE_UPLOAD_MAX_MEMORY_SIZE = 2**20
_SELF, _NONE = ["'self'"], ["'none'"]
SECURE_CSP = {
    "default-src": _NONE,
    "script-src": _SELF,
    "style-src": _SELF,
    "img-src": [*_SELF, "data:"],
    "media-src": _SELF,
    "font-src": _SELF,
    "connect-src": _SELF,
    "form-action": _SELF,
    "frame-ancestors": _NONE,
    "base-uri": _NONE,
    "object-src": _NONE,
}

# ── The worker (CONTRACTS.md 1.11), times in seconds ───────────────────────
WORKER_CONCURRENCY = env.integer("WORKER_CONCURRENCY", 4, 1, 256)
WORKER_HEARTBEAT = env.number("WORKER_HEARTBEAT", 5, 0.05, 3600)
WORKER_LEASE = env.number("WORKER_LEASE", 30, 0.1, 86400)
WORKER_POLL = env.number("WORKER_POLL", 1, 0.02, 3600)
RUN_DEADLINE = env.number("RUN_DEADLINE", 300, 0.1, 7 * 86400)
RUN_MAX_ATTEMPTS = env.integer("RUN_MAX_ATTEMPTS", 3, 1, 1000)
EVALUATE_TIMEOUT = env.number("EVALUATE_TIMEOUT", 300, 0.1, 7 * 86400)  # of requests that wait for a run
if WORKER_LEASE <= WORKER_HEARTBEAT:
    raise SettingError(
        f"WORKER_LEASE={WORKER_LEASE:g} must exceed WORKER_HEARTBEAT={WORKER_HEARTBEAT:g}, "
        "or every run would be taken from the worker that is at it."
    )
# Where a session of its own is needed, as for LISTEN, and DATABASE_URL leads to a pooler.
DATABASE_DIRECT = env.vigilant(env.database("DATABASE_DIRECT_URL") or _app)

# ── What evaluators may do (docs/evaluators.md) ────────────────────────────
EVALUATOR_FOLDERS = env.folders("EVALUATOR_FOLDERS")
EVALUATOR_PYTHON = env.text("EVALUATOR_PYTHON", sys.executable)
EVALUATOR_MEMORY = env.integer("EVALUATOR_MEMORY", 2048, 128, 2**20)  # MB
_extra = sys.executable if importlib.util.find_spec("agentevals") else ""  # runfolio[agentevals]
AGENTEVALS_PYTHON = env.text("AGENTEVALS_PYTHON", _extra)
AGENTEVALS_NETWORK = env.boolean("AGENTEVALS_NETWORK", False)
AGENTEVALS_EVALUATOR_REPO = env.text("AGENTEVALS_EVALUATOR_REPO")
AGENTEVALS_EVALUATOR_BRANCH = env.text("AGENTEVALS_EVALUATOR_BRANCH", "main")
AGENTEVALS_GITHUB_TOKEN = env.text("AGENTEVALS_GITHUB_TOKEN")

# ── Deliveries (docs/webhooks.md), times in seconds ────────────────────────
DELIVERY_THREADS = env.integer("DELIVERY_THREADS", 8, 1, 256)
DELIVERY_FOR = env.number("DELIVERY_FOR", 86400, 1, 30 * 86400)

# ── What is kept, and how long ─────────────────────────────────────────────
DELETE_GRACE_DAYS = env.integer("DELETE_GRACE_DAYS", 7, 0, 3650)
UPKEEP_INTERVAL = env.number("UPKEEP_INTERVAL", 60, 0.05, 86400)  # seconds

# ── Static files, language, time, logs ─────────────────────────────────────
STATIC_URL = "/static/"
STATIC_ROOT = None  # nothing is collected: files are served from where they lie
STATICFILES_DIRS = [BASE_DIR / "static"]
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = DEBUG
LANGUAGE_CODE = "en"
USE_I18N = False
DATETIME_FORMAT = "Y-m-d H:i:s"
TIME_ZONE = "UTC"
USE_TZ = True
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"()": "project.logs.OneLine"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {
        "handlers": ["stderr"],
        "level": env.choice("LOG_LEVEL", "WARNING", ("DEBUG", "INFO", "WARNING", "ERROR")),
    },
    "loggers": {
        "runs": {"level": env.choice("LOG_LEVEL", "INFO", ("DEBUG", "INFO", "WARNING", "ERROR"))},
        "django.request": {"level": "ERROR"},
        "django.security.DisallowedHost": {"handlers": [], "propagate": False},
    },
}
