// A figure of `lib.site.interactive`: its slider moves the marks of the drawing that is already there.
((box) => {
  const { frames, x, y, kind } = JSON.parse(box.querySelector("script[type='application/json']").textContent);
  const slider = box.querySelector("input");
  const shown = box.querySelector("output");
  const marks = [...box.querySelectorAll("[data-series]")];
  const height = (value) => y.from + ((Math.min(Math.max(value, y.low), y.high) - y.low) / (y.high - y.low)) * (y.to - y.from);
  const draw = () => {
    const frame = frames[slider.value];
    shown.textContent = frame.name;
    slider.setAttribute("aria-valuetext", frame.name);
    for (const mark of marks) {
      const values = frame.values[mark.dataset.series];
      if (kind === "bars") {
        const top = height(values[mark.dataset.at]);
        const floor = height(Math.max(0, y.low));
        mark.setAttribute("y", Math.min(top, floor).toFixed(1));
        mark.setAttribute("height", Math.abs(floor - top).toFixed(1));
      } else {
        mark.setAttribute("points", values.map((value, i) => `${x[i].toFixed(1)},${height(value).toFixed(1)}`).join(" "));
      }
    }
  };
  box.querySelector(".interactive-controls").hidden = false;
  slider.addEventListener("input", draw);
  draw();
})(document.currentScript.parentElement);
