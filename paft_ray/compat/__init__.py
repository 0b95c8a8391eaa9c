"""The one door to what Ray, vLLM, DeepSpeed, PEFT, transformers and torch do not promise to keep: private imports,
private attributes, patches.

Each entry states its reason, the version that it was written against and what public interface would replace it.
`tests/unit/compat` fails where the target of an entry moved. An entry that only saves time falls back to the public
path; it says so once, by `moved`.
"""
