"""Configuration and task files: YAML that attacks the reader, and settings that cannot be."""

from tests.hostile.bad_inputs.case import GOOD_CONFIG, GOOD_ROW, GOOD_TASK, Case, config, setting, task

LAUGHS = "".join(f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 9)}]\n" if n else "x0: &x0 [ha]\n" for n in range(12))

YAML = [
    Case(given="no such configuration", arguments=("run", "nowhere.yaml"), says="cannot be read"),
    Case(given="a folder as configuration", arguments=("run", "{dir}", "--dry-run"), says="Is a directory"),
    Case(given="an endless device as configuration", arguments=("run", "/dev/zero"), says="not a regular file"),
    Case(given="a NUL in the name of the configuration", arguments=("run", "a\0.yaml"), says="embedded null byte"),
    Case(
        given="a loop of links as configuration",
        arguments=("run", "{dir}/l.yaml"),
        says="cannot be read",
        files={"l.yaml -> l.yaml": ""},
    ),
    *[
        Case(given=f"{key} accepted", arguments=("run", "nowhere.yaml", "--accept", key), says=says)
        for key, says in {
            "task": "--accept task: another task, other rows, templates or weights are another experiment",
            "data.num_train": "--accept data.num_train: another task",
            "model.identity.files": "--accept model.identity.files: another task",
            "versions.torch=2": "no entry of a stage's key",
        }.items()
    ],
    config("broken YAML", "not valid YAML", "name: ["),
    config("an empty configuration", "a mapping of sections is needed, found NoneType", ""),
    config("a list as configuration", "a mapping of sections is needed, found list", "- a\n"),
    config("a configuration of a megabyte", "larger than 262144 bytes", GOOD_CONFIG + "#" * 2**20),
    config(
        "a configuration in another encoding", "cannot be read", (GOOD_CONFIG + "storage: caf\xe9\n").encode("latin-1")
    ),
    config("a configuration in UTF-16", "cannot be read", GOOD_CONFIG.encode("utf-16")),
    config("a key twice", "the key 'train' comes twice", GOOD_CONFIG + "train: {k: 1}\ntrain: {k: 2}\n"),
    config("a section under both of its names", "are the same section", GOOD_CONFIG + "evaluate: {}\nevaluation: {}\n"),
    config("a billion laughs", "the alias *x0: write the value itself", LAUGHS + GOOD_CONFIG),
    config("a value that holds itself", "the alias *a", GOOD_CONFIG + "engine: {engine_kwargs: &a {x: *a}}\n"),
    config("a merge key with an alias", "the alias *base", "base: &base {k: 1}\ntrain: {<<: *base}\n" + GOOD_CONFIG),
    config("a merge key that merges text", "not valid YAML", GOOD_CONFIG + "train: {<<: hello}\n"),
    config(
        "a YAML tag that makes a Python object",
        "could not determine a constructor",
        "name: !!python/object/apply:os.system [id]\n",
    ),
    config(
        "a YAML tag that names a Python module", "could not determine a constructor", "name: !!python/name:os.system\n"
    ),
    config("a YAML tag of our own", "could not determine a constructor", GOOD_CONFIG + "seed: !mine 3\n"),
    config("text under the tag of a number", "'many' is not of its type int", GOOD_CONFIG + "seed: !!int many\n"),
    config(
        "text under the tag of a truth value",
        "'perhaps' is not of its type bool",
        GOOD_CONFIG + "seed: !!bool perhaps\n",
    ),
    config(
        "text under the tag of a time", "'now' is not of its type timestamp", GOOD_CONFIG + "seed: !!timestamp now\n"
    ),
    config("nothing under the tag of a number", "'' is not of its type int", GOOD_CONFIG + 'seed: !!int ""\n'),
    config("text under the tag of a mapping", "not valid YAML", GOOD_CONFIG + "train: !!map text\n"),
    config(
        "a date that does not exist", "'2024-13-45' is not of its type timestamp", GOOD_CONFIG + "seed: 2024-13-45\n"
    ),
    config("a number of five thousand digits", "is not of its type int", GOOD_CONFIG + "seed: " + "9" * 5000 + "\n"),
    config("YAML nested ten thousand deep", "nested too deep", GOOD_CONFIG + "engine: " + "[" * 10_000),
    config(
        "YAML nested deep and closed",
        "nested too deep",
        GOOD_CONFIG + "engine: {engine_kwargs: {a: " + "[" * 5_000 + "]" * 5_000 + "}}\n",
    ),
    config("a set where a section is needed", "train: Input should be", GOOD_CONFIG + "train: !!set {a, b}\n"),
    config(
        "bytes as an engine argument",
        "engine.engine_kwargs.a: input was not a valid JSON value",
        GOOD_CONFIG + "engine: {engine_kwargs: {a: !!binary aGk=}}\n",
    ),
    config(
        "a date as an engine argument",
        "input was not a valid JSON value",
        GOOD_CONFIG + "engine: {engine_kwargs: {a: 2024-01-01}}\n",
    ),
    config(
        "no number as an engine argument",
        "engine.engine_kwargs.a.float: Input should be a finite number",
        GOOD_CONFIG + "engine: {engine_kwargs: {a: .nan}}\n",
    ),
    config("a key that is no text", "engine.engine_kwargs.1", GOOD_CONFIG + "engine: {engine_kwargs: {1: 2}}\n"),
    config("a list as a key", "not valid YAML", GOOD_CONFIG + "? [a, b]\n: 1\n"),
    config("a tab where YAML needs spaces", "not valid YAML", "name: a\ntask: demo\ntrain:\n\tk: 1\n"),
    config("a NUL in YAML", "not valid YAML", GOOD_CONFIG + "storage: a\0b\n"),
    config("an escaped NUL", "holds a character that does not show", GOOD_CONFIG + 'storage: "a\\0b"\n'),
    config(
        "half a character",
        "holds a character that does not show (or half of one)",
        GOOD_CONFIG + 'storage: "a\\ud83d"\n',
    ),
    config(
        "a zero-width space in a name",
        "name: 'a\\u200bb' holds a character that does not show",
        "name: a\u200bb\ntask: demo\n",
    ),
    config(
        "a path that reads backwards", "storage: 'a\\u202eb' holds a character", GOOD_CONFIG + "storage: a\u202eb\n"
    ),
    config(
        "a terminal's escape sequence in a value", "'\\x1b[2J' holds a character", GOOD_CONFIG + 'storage: "\\e[2J"\n'
    ),
    config("an escape sequence in a key", "holds a character that does not show", GOOD_CONFIG + '"\\e[2J": 1\n'),
    config("two documents", "not valid YAML", GOOD_CONFIG + "---\n" + GOOD_CONFIG),
]
SETTINGS = [
    setting("an unknown key", "did you mean train.num_steps", "train.num_step=3"),
    setting("an unknown section", "did you mean train", "trian.x=3"),
    setting("an unknown key far from any", "unknown key prompts.zzz; allowed: decisions, generators", "prompts.zzz=4"),
    setting(
        "an unknown key in a list",
        "did you mean prompts.generators.0.temperature",
        "prompts.generators=[{temprature: 1}]",
    ),
    setting("a wrong type", "train.global_batch: Input should be a valid integer", "train.global_batch=many"),
    setting(
        "a value out of range",
        "train.learning_rate: Input should be greater than 0 (given -1)",
        "train.learning_rate=-1",
    ),
    setting("a huge number", "num_train: Input should be less than 2147483648", "data.num_train=999999999999999999999"),
    setting(
        "a batch that does not divide over the most workers",
        "global_batch=4 is not a multiple of num_workers x micro_batch = 3 x 1",
        "train.min_workers=1",
        "train.num_workers=3",
        "train.micro_batch=1",
    ),
    setting("fewest workers above the most", "train.min_workers=3 is above train.num_workers=2", "train.min_workers=3"),
    setting("a seed below zero", "seed: Input should be greater than or equal to 0", "seed=-5"),
    setting(
        "an endless learning rate", "train.learning_rate: Input should be a finite number", "train.learning_rate=.inf"
    ),
    setting("a share that is no number", "report.threshold: Input should be a finite number", "report.threshold=.nan"),
    setting("text where a list of texts is needed", "train.arms", "train.arms=paft"),
    setting("nothing where a name is needed", "name: Input should be a valid string", "name="),
    setting("a name with a slash", "name: String should match pattern", "name=a/b"),
    setting("a name that climbs", "name: String should match pattern", "name=.."),
    setting("a name with a line break", "name: String should match pattern", 'name="a\\n"'),
    setting("steps and epochs", "exactly one of", "train.num_epochs=2"),
    setting("a batch that does not divide", "not a multiple", "train.micro_batch=5"),
    setting("offload without its stage", "needs train.zero_stage=3", "train.offload=optimizer_and_weights"),
    setting("a seed twice", "train.seeds: at least one is needed, and each once", "train.seeds=[0, 0]"),
    setting("a size twice", "sweep.sizes: at least one is needed", "sweep.sizes=[1, 2, 2]"),
    setting(
        "a misspelled option of a scheduler",
        "'graceperiod': not an option of this class of Ray Tune, so it is not passed on; nearest allowed: grace_period",
        "sweep.scheduler={name: asha, options: {graceperiod: 20}}",
    ),
    setting(
        "an option of a scheduler that is ours",
        "max_t: is decided by train.num_steps",
        "sweep.scheduler={name: asha, options: {max_t: 20}}",
    ),
    setting(
        "an option of a scheduler of another type",
        "grace_period: Input should be a valid integer",
        "sweep.scheduler={name: asha, options: {grace_period: '20'}}",
    ),
    setting(
        "a seed of a searcher",
        "seed: is decided by seed",
        "sweep.searcher={name: optuna, options: {seed: 3}}",
    ),
    setting(
        "compiled where weights are gathered",
        "train.compile needs train.zero_stage of 0 to 2",
        "train.compile=true",
        "train.zero_stage=3",
    ),
    setting("half precision on a CPU", "fp16 needs a GPU", "train.precision=fp16"),
    setting("an arm without scores", "needs score.enabled", "score.enabled=false"),
    setting("no target modules", "train.lora.target_modules", "train.lora.target_modules=[]"),
    setting(
        "target modules that the model lacks",
        "target_modules: nope are not in the model",
        "train.lora.target_modules=[nope]",
    ),
    setting(
        "prompts shorter than the templates",
        "tokens without its fields, model.max_prompt_tokens=5 are allowed",
        "model.max_prompt_tokens=5",
    ),
    setting("prompts longer than the model reads", "the model reads 8192 tokens", "model.max_prompt_tokens=99999"),
    setting("an unknown field to cut", "not a field of task demo", "model.truncate_field=body"),
    setting(
        "too many CPUs", "asks for 512 CPUs", "train.num_workers=512", "train.micro_batch=1", "train.global_batch=512"
    ),
    setting(
        "engines that do not fit",
        "engine.replicas x tensor_parallel x num_cpus asks for 512 CPUs",
        "engine.replicas=512",
    ),
    setting("more GPUs than there are", "asks for 512 GPUs", "engine.num_gpus=512"),
    setting(
        "more test rows than there are",
        "data.num_test=1000000: only 160 rows are there",
        "data.num_test=1000000",
        dry=True,
    ),
    setting("a plugin that is not there", "plugin missing.py: cannot be read", "plugins=[missing.py]"),
    setting("a plugin that is no file", "plugins: the path of a Python file is needed", "plugins=[os]"),
    setting(
        "a plugin with another content",
        "its SHA-256 is",
        "plugins=['{dir}/mine.py#sha256=" + "0" * 64 + "']",
        files={"mine.py": "GRADERS = {}\n"},
    ),
    setting("an override without a value", "write section.key=value", "train"),
    setting("an override of a value's part", "name has no keys below it", "name.x=1"),
    setting("an override that is no YAML", "is not a YAML value", "train.num_steps=["),
    setting("an override with a date that does not exist", "is not a YAML value", "train.num_steps=2024-13-45"),
    setting("an override with an alias", "is not a YAML value", "engine.engine_kwargs={a: &a [1], b: *a}"),
    setting("an override nested too deep", "is not a YAML value", "train.num_steps=" + "[" * 10_000),
    setting("an override with a key twice", "is not a YAML value", "train.lora={rank: 1, rank: 2}"),
    setting("an override with a hidden character", "--set storage: 'a\\u202eb' holds a character", "storage=a\u202eb"),
    setting("an override of a megabyte", "seed: Input should be a valid integer", "seed=" + "x" * 100_000),
    setting(
        "a longest answer of an endpoint that is no number",
        "request.max_completion_tokens: an integer above 0",
        "prompts.generators=[{id: a, endpoint: {base_url: 'http://h/v1', request: {max_completion_tokens: many}}}]",
    ),
    setting(
        "a generator's address with a bracket that is not closed",
        "endpoint",
        "prompts.generators=[{id: a, endpoint: {base_url: 'http://['}}]",
    ),
]
TASKS = [
    setting("an unknown task", "no such task; built in: demo", "task=sentiments"),
    setting("a task that climbs", "no such task", "task=../../../etc/passwd"),
    setting("a task with a NUL in its name", "holds a character that does not show", 'task="a\\0.yaml"'),
    task("an unknown key in a task", "label: Extra inputs", GOOD_TASK.replace("labels", "label")),
    task("one label", "needs at least two", GOOD_TASK.replace("[bad, good]", "[bad]")),
    task(
        "a label that YAML reads as something else",
        "put the label in quotes",
        GOOD_TASK.replace("[bad, good]", "[no, yes]"),
    ),
    task(
        "a label with spaces around it",
        "labels: 'good ' is empty or has spaces",
        GOOD_TASK.replace("[bad, good]", "[bad, 'good ']"),
    ),
    task(
        "a label with an escape sequence",
        "holds a character that does not show",
        GOOD_TASK.replace("[bad, good]", '[bad, "good\\e[0m"]'),
    ),
    task(
        "a field that no template can name",
        "fields: '0.__class__' is no name",
        GOOD_TASK.replace("{text: the", "{0.__class__: the"),
    ),
    task("a task with a key twice", "the key 'kind' comes twice", GOOD_TASK + "kind: free\n"),
    task("a task that is a bomb", "the alias *x0", LAUGHS + GOOD_TASK),
    task(
        "a task that makes a Python object",
        "could not determine a constructor",
        GOOD_TASK + "license: !!python/object:os.stat_result {}\n",
    ),
    task(
        "a pattern that is no regular expression",
        "not a regular expression",
        GOOD_TASK.replace("choice", "free") + "pattern: '('\n",
    ),
    task(
        "rows from a file and a hub", "exactly one of path and dataset", GOOD_TASK.replace("}}\n", ", dataset: b}}\n")
    ),
    Case(
        given="a folder as task",
        arguments=("run", "jobs/configs/demo.yaml", "--set", "task={dir}/t.yaml"),
        says="no such task",
        files={"t.yaml/x": GOOD_ROW},
    ),
]
CASES = [*YAML, *SETTINGS, *TASKS]
