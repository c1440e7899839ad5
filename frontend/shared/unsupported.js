// For browsers that cannot run the page's modules, so written for the oldest: shows the words that are in the page.
// Modules run before the page counts as loaded.
addEventListener("load", function () {
  if (!document.documentElement.hasAttribute("data-started")) document.getElementById("older").hidden = false;
});
