"use strict";
// Accept and reject become the lines of a decisions file, to download or to copy; the page can be read without it.
const candidates = [...document.querySelectorAll(".candidate")];
const [lines, link, told, shown] = ["lines", "download", "told", "shown"].map((id) => document.getElementById(id));
const decision = (candidate) => candidate.querySelector("input:checked")?.value ?? "";
// In ASCII, so that no editor or shell changes or hides a character.
const ascii = (text) => text.replace(/[^\x20-\x7e]/g, (unit) => "\\u" + unit.charCodeAt(0).toString(16).padStart(4, "0"));
const line = (candidate) => {
  const { id, ...template } = JSON.parse(candidate.dataset.row);
  return ascii(JSON.stringify({ id, decision: decision(candidate), ...template })) + "\n";
};
const update = () => {
  const decided = candidates.filter(decision);
  lines.value = decided.map(line).join("");
  URL.revokeObjectURL(link.href);
  link.href = URL.createObjectURL(new Blob([lines.value], { type: "application/jsonl" }));
  const count = (value) => decided.filter((candidate) => decision(candidate) === value).length;
  told.textContent = `${count("accept")} accepted, ${count("reject")} rejected`;
  const [kind, value] = shown.value.split(":");
  for (const candidate of candidates) {
    candidate.hidden = Boolean(kind) && (kind === "verdict" ? candidate.dataset.verdict : decision(candidate)) !== value;
  }
};
document.getElementById("without-script").hidden = true;
for (const hidden of document.querySelectorAll("#controls, fieldset")) hidden.hidden = false;
for (const candidate of candidates) candidate.addEventListener("change", update);
shown.addEventListener("change", update);
update();
