// Shows the control room's message for browsers that cannot run its modules; written for the oldest browsers. Modules run
// before the `load` event.
addEventListener("load", function () {
  if (!document.documentElement.hasAttribute("data-started")) document.getElementById("unsupported").hidden = false;
});
