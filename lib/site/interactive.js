// A figure of `lib.site.interactive` or `lib.site.scenes`: its slider, its handle and its play button move the marks of the
// drawing that is already there.
((box) => {
  const { kind, frames, x, y, moves, drag } = JSON.parse(box.querySelector("script[type='application/json']").textContent);
  const drawing = box.querySelector("svg");
  const slider = box.querySelector("input");
  const shown = box.querySelector("output");
  const said = box.querySelector(".interactive-says");
  const button = box.querySelector("button");
  const last = frames.length - 1;

  // Charts: each mark has a value of its series. Scenes: each mark has attributes, of which those that change are listed.
  const series = [...drawing.querySelectorAll("[data-series]")];
  const height = (value) => y.from + ((Math.min(Math.max(value, y.low), y.high) - y.low) / (y.high - y.low)) * (y.to - y.from);
  const painters = {
    bars: ({ values }) => {
      for (const mark of series) {
        const top = height(values[mark.dataset.series][mark.dataset.at]);
        const floor = height(Math.max(0, y.low));
        mark.setAttribute("y", Math.min(top, floor).toFixed(1));
        mark.setAttribute("height", Math.abs(floor - top).toFixed(1));
      }
    },
    lines: ({ values }) => {
      for (const mark of series) {
        const row = values[mark.dataset.series];
        mark.setAttribute("points", row.map((value, i) => `${x[i].toFixed(1)},${height(value).toFixed(1)}`).join(" "));
      }
    },
    scene: (frame, at) => {
      for (const { mark, name, values } of changes) {
        if (name === "text") mark.textContent = values[at];
        else mark.setAttribute(name, values[at]);
      }
    },
  };
  const changes = (moves || []).map(([mark, name, values]) => {
    const whole = []; // 0 stands for 'as in the frame before'
    for (const value of values) whole.push(value === 0 ? whole[whole.length - 1] : value);
    return { mark: drawing.querySelector(`[data-mark="${mark}"]`), name, values: whole };
  });

  let handle = null;
  const draw = () => {
    const at = Number(slider.value);
    const { name, says } = frames[at];
    shown.textContent = name;
    if (said) said.textContent = says;
    slider.setAttribute("aria-valuetext", says ? `${name}: ${says}` : name);
    painters[kind](frames[at], at);
    if (handle) {
      handle.setAttribute("cx", drag[at][0]);
      handle.setAttribute("cy", drag[at][1]);
    }
  };
  const move = (at) => {
    slider.value = at;
    draw();
  };

  let clock = 0;
  const stop = () => {
    clearInterval(clock);
    clock = 0;
    if (button) button.textContent = "Play";
  };
  if (button) {
    button.addEventListener("click", () => {
      if (clock) return stop();
      if (Number(slider.value) === last) move(0);
      button.textContent = "Pause";
      clock = setInterval(() => {
        move(Number(slider.value) + 1);
        if (Number(slider.value) === last) stop();
      }, Math.min(900, Math.max(50, 8000 / frames.length)));
    });
  }

  if (drag) {
    handle = drawing.appendChild(document.createElementNS("http://www.w3.org/2000/svg", "circle"));
    handle.setAttribute("class", "handle");
    handle.setAttribute("r", 18);
    const follow = (event) => {
      const { x: left, y: top } = new DOMPoint(event.clientX, event.clientY).matrixTransform(drawing.getScreenCTM().inverse());
      const away = drag.map(([a, b]) => (a - left) ** 2 + (b - top) ** 2);
      move(away.indexOf(Math.min(...away)));
    };
    // A finger may scroll the page on the drawing, and drags only by the handle; a mouse takes hold anywhere.
    drawing.addEventListener("pointerdown", (event) => {
      if (event.button || (event.pointerType !== "mouse" && event.target !== handle)) return;
      stop();
      drawing.setPointerCapture(event.pointerId);
      slider.focus({ preventScroll: true });
      follow(event);
      event.preventDefault();
    });
    drawing.addEventListener("pointermove", (event) => {
      if (drawing.hasPointerCapture(event.pointerId)) follow(event);
    });
  }

  box.querySelector(".interactive-controls").hidden = false;
  slider.addEventListener("input", () => {
    stop();
    draw();
  });
  draw();
})(document.currentScript.parentElement);
