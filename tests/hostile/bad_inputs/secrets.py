"""Secrets in the wrong place: told by their name, by their letters, or by the variable that holds them, and never
shown."""

from tests.hostile.bad_inputs.case import GOOD_TASK, Case, setting
from tests.hostile.bad_inputs.places import MADE_UP_SECRET

HIDDEN = MADE_UP_SECRET
NAMES = (
    "passwd pass pwd private_key jwt cookie bearer connection_string Ocp-Apim-Subscription-Key x-api-key apikey "
    "clientSecret sas sig API_KEY_2"
    " X-Auth-Token PRIVATE-TOKEN db_pass refresh_token Proxy-Authorization AccountKey"
)
OPTIONS = [
    setting(
        f"{name} for the engine",
        f"engine.engine_kwargs.{name}: secrets come from the environment only",
        f"engine.engine_kwargs={{a: {{{name}: {HIDDEN}}}}}",
    )
    for name in NAMES.split()
]
RANDOM = "qZ7vK2mXw9TbR4yLcJ8hNfD3sGpA6eUo"  # 32 letters and digits


def endpoint(given: str, says: str, url: str, request: str = "{}") -> Case:
    """A generator behind an endpoint."""
    return setting(given, says, f"prompts.generators=[{{id: g, endpoint: {{base_url: '{url}', request: {request}}}}}]")


LETTERS = [
    setting(
        "random letters for the engine",
        "engine.engine_kwargs.a.b: holds what looks like a key",
        f"engine.engine_kwargs={{a: {{b: [x, {RANDOM}]}}}}",
    ),
    setting(
        "random letters as an option's name",
        "engine.engine_kwargs: holds what looks like a key",
        f"engine.engine_kwargs={{{RANDOM}: 1}}",
    ),
    setting(
        "32 hex digits for the engine",
        "holds what looks like a key",
        "engine.engine_kwargs={a: 3f2a9c01d4e8b7650f1e2d3c4b5a6978}",
    ),
    setting(
        "a key of 40 letters with a slash",
        "holds what looks like a key",
        "engine.engine_kwargs={a: kQ8/Zt3vRw1+Xp7LmC5nHy2Bd9Fs4Gj6Ka0TeUxV}",
    ),
    setting(
        "random letters in a query for the engine",
        "holds what looks like a key",
        f"engine.engine_kwargs={{a: 'http://h/x?y={RANDOM}'}}",
    ),
    endpoint(
        "a key in the path of an endpoint",
        "endpoint.base_url: the URI holds credentials",
        f"https://h/v1/{RANDOM}/openai",
    ),
    endpoint(
        "a quoted key in the path of an endpoint",
        "endpoint.base_url: the URI holds credentials",
        "https://h/%71Z7vK2mXw9TbR4yLcJ8hNfD3sGpA6eUo",
    ),
    endpoint(
        "random letters in a header",
        "holds what looks like a key",
        "https://h/v1",
        f"{{extra_headers: {{X-Lab: {RANDOM}}}}}",
    ),
    endpoint(
        "random letters in a query",
        "holds what looks like a key",
        "https://h/v1",
        f"{{extra_query: {{lab: {RANDOM}}}}}",
    ),
    setting(
        "a signature in the storage's URI",
        "storage: the URI holds credentials",
        f"storage=s3://bucket/runs?sas={HIDDEN}",
    ),
    setting(
        "the id of a key in the rows' URI",
        "data.test: the URI holds credentials",
        f"data.test=s3://bucket/t.jsonl?AWSAccessKeyId={HIDDEN}",
    ),
    setting(
        "a key in the path of the storage", "storage: the URI holds credentials", f"storage=s3://bucket/{RANDOM}/runs"
    ),
    setting(
        "a key in the path of a tracker",
        "tracking.mlflow: the URI holds credentials",
        f"tracking.mlflow=https://host/{RANDOM}",
    ),
    setting(
        "a key in the options of a tracker",
        "the address holds credentials",
        f"tracking.mlflow=https://host/?key={HIDDEN}",
    ),
]
KNOWN = {
    "OpenAI": "sk-proj-made0up0123456789",
    "Hugging Face": "hf_" + "madeUpLetters" * 3,
    "GitHub": "ghp_" + "made0Up1" * 5,
    "GitHub, fine-grained": "github_pat_11MADE0UP01_" + "made0Up1" * 4,
    "AWS": "AKIA" + "MADEUP0123456789",
    "Slack": "xoxb-0123456789-madeup01234",
    "a JSON web token": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.bWFkZS11cA",
    "GitLab": "glpat-made0up0123456789",
    "Google": "AIza" + "SyMade-Up_" * 4,
}
PLACES = {
    "the name of an experiment": "tracking.experiment=VALUE",
    "the name of a model": "model.revision=VALUE",
    "a field of a request": "prompts.generators=[{id: g, endpoint: {base_url: 'https://h/v1', request: {user: "
    "VALUE}}}]",
    "the name of a generator": "prompts.generators=[{id: VALUE, endpoint: {base_url: 'https://h/v1'}}]",
}
PREFIXES = [
    setting(
        f"a key of {maker}",
        "engine.engine_kwargs.a: holds what looks like a key or token",
        f"engine.engine_kwargs={{a: {key}}}",
    )
    for maker, key in KNOWN.items()
]
PREFIXES += [
    setting(f"a key as {place}", "holds what looks like a key or token", change.replace("VALUE", KNOWN["Hugging Face"]))
    for place, change in PLACES.items()
]
TASK = [
    setting(
        "a key in the description of a task",
        "task t.description holds what looks like a key",
        "task={dir}/t.yaml",
        files={"t.yaml": GOOD_TASK.replace("description: d", f"description: use {KNOWN['GitHub']}")},
    ),
]
CASES = [*OPTIONS, *LETTERS, *PREFIXES, *TASK]
SHOWN_NOWHERE = (HIDDEN, RANDOM, RANDOM[1:], *KNOWN.values())
