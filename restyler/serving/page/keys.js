// The keyboard, wherever the focus is; keys that a focused control needs itself stay its own.

const MOVE_S = 2;

export function keys(does) {
  const own = (target, key) => {
    if (target.closest("dialog")) return true;
    if (target.matches("select, textarea, input:not([type=range])")) return true;
    if (target.matches("input[type=range]")) return /^(Arrow|Home|End|Page)/.test(key);
    return key === " " && target.matches("button, summary, a");
  };
  document.addEventListener("keydown", (event) => {
    const { key, target } = event;
    if (event.ctrlKey || event.metaKey || event.altKey || own(target, key) || !does.ready()) return;
    if (key === " ") does.toggle();
    else if (/^[0-9]$/.test(key)) does.choosePlace(Number(key));
    else if (key === "ArrowLeft" || key === "ArrowRight") does.move(key === "ArrowLeft" ? -MOVE_S : MOVE_S);
    else if (!target.closest("#listen-part") && /^Arrow(Up|Down)$/.test(key)) return; // there they scroll
    else if (key === "ArrowUp" || key === "ArrowDown") does.step(key === "ArrowUp" ? -1 : 1);
    else if (key.toLowerCase() === "l") does.loop();
    else if (key.toLowerCase() === "b") does.blind();
    else return;
    event.preventDefault();
  });
}
