#include "report/page.h"

#include <fmt/format.h>

#include <cmath>

#include "report/style.h"
#include "report/text.h"

namespace kvasir::report {
namespace {

constexpr std::string_view kSheet = R"(
:root{color-scheme:light dark;--t:#1f2328;--m:#59636e;--l:#dfe3e8;--b:#fff;--z:#f6f8fa;--a:#0b5cad}
@media (prefers-color-scheme:dark){:root{--t:#e6edf3;--m:#9da7b3;--l:#2a313a;--b:#0d1117;--z:#161b22;--a:#6cb0f0}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:76rem;padding:1.5rem 1.25rem 4rem;background:var(--b);color:var(--t);
font:15px/1.5 system-ui,-apple-system,"Segoe UI","Liberation Sans","DejaVu Sans",Arial,sans-serif;overflow-wrap:break-word}
h1{font-size:1.6rem;line-height:1.25;margin:.5rem 0}h2{font-size:1.15rem;margin:2.25rem 0 .75rem;padding-top:.75rem;border-top:1px solid var(--l)}
.lede,figcaption,caption{color:var(--m)}a{color:var(--a)}
nav ul{display:flex;flex-wrap:wrap;gap:.25rem 1.25rem;list-style:none;padding:0;margin:1rem 0}
figure{margin:1rem 0;overflow-x:auto}figure svg{max-width:100%;height:auto}figure svg.wide{max-width:none}
figcaption{margin-top:.25rem}
.w{overflow-x:auto;margin:1rem 0}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
caption{text-align:left;padding-bottom:.35rem}
th,td{padding:.25rem .7rem;border-bottom:1px solid var(--l);text-align:left;vertical-align:top}
thead th{border-bottom:2px solid var(--m);white-space:nowrap}tbody tr:nth-child(even){background:var(--z)}
.n{text-align:right;white-space:nowrap}
th button{all:unset;cursor:pointer;font-weight:600}th button:focus-visible{outline:2px solid var(--a);outline-offset:2px}
th[aria-sort] button::after{content:" \25b2";color:var(--m);font-size:.7em}
th[aria-sort=descending] button::after{content:" \25bc"}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.15rem 1.25rem;margin:1rem 0}
dt{color:var(--m)}dd{margin:0;overflow-wrap:anywhere}
@media print{:root{color-scheme:light;--t:#000;--m:#444;--l:#bbb;--b:#fff;--z:#fff;--a:#000}
body{max-width:none;padding:0;font-size:11px}nav{display:none}h2{break-after:avoid}
figure,tr{break-inside:avoid}figure svg,figure svg.wide{max-width:100%;max-height:21cm}
thead{display:table-header-group}.w,figure{overflow:visible}
th[aria-sort] button::after{content:""}}
)";

// Numbers by value, texts as people order them; what has no value comes last either way.
constexpr std::string_view kScript = R"(
document.querySelectorAll("th button").forEach(b=>b.addEventListener("click",()=>{
const h=b.parentNode,i=h.cellIndex,t=h.closest("table"),s=t.tBodies[0];
const d=h.getAttribute("aria-sort")==="ascending"?-1:1;
t.querySelectorAll("th").forEach(x=>x.removeAttribute("aria-sort"));
h.setAttribute("aria-sort",d>0?"ascending":"descending");
const k=r=>{const c=r.cells[i];return c.dataset.v!==undefined?parseFloat(c.dataset.v):c.textContent};
[...s.rows].map(r=>[k(r),r]).sort(([a],[b])=>{
const x=a===""||Number.isNaN(a),y=b===""||Number.isNaN(b);
if(x||y)return x-y;
return d*(typeof a==="number"&&typeof b==="number"?a-b:String(a).localeCompare(String(b),undefined,{numeric:true}))
}).forEach(([,r])=>s.append(r))}));
)";

std::string cell_of(const Column& column, const Cell* cell) {
  const std::string_view kind = column.right ? " class=\"n\"" : "";
  if (!cell) return fmt::format("<td{}></td>", kind);
  const std::string value =
      !cell->value ? ""
                   : fmt::format(" data-v=\"{}\"", std::isfinite(*cell->value)
                                                       ? fmt::format("{}", *cell->value)
                                                       : std::string());
  return fmt::format("<td{}{}>{}</td>", kind, value, escape_xml(cell->text));
}

}  // namespace

Page::Page(std::string title, std::string lede)
    : title_(std::move(title)), lede_(std::move(lede)) {}

void Page::section(std::string_view heading) {
  headings_.emplace_back(heading);
  body_ += fmt::format("<h2 id=\"s{}\">{}</h2>\n", headings_.size(), escape_xml(heading));
}

void Page::paragraph(std::string_view text) {
  body_ += fmt::format("<p>{}</p>\n", escape_xml(text));
}

void Page::pairs(const std::vector<std::pair<std::string, std::string>>& pairs) {
  if (pairs.empty()) return;
  body_ += "<dl>\n";
  for (const auto& [name, value] : pairs)
    body_ += fmt::format("<dt>{}</dt><dd>{}</dd>\n", escape_xml(name), escape_xml(value));
  body_ += "</dl>\n";
}

void Page::table(const Table& table) {
  body_ += "<div class=\"w\"><table>\n";
  if (!table.caption.empty())
    body_ += fmt::format("<caption>{}</caption>\n", escape_xml(table.caption));
  body_ += "<thead><tr>";
  for (const Column& column : table.columns)
    body_ += fmt::format("<th scope=\"col\"{}><button type=\"button\">{}</button></th>",
                         column.right ? " class=\"n\"" : "", escape_xml(column.head));
  body_ += "</tr></thead>\n<tbody>\n";
  for (const auto& row : table.rows) {
    body_ += "<tr>";
    for (size_t i = 0; i < table.columns.size(); ++i)
      body_ += cell_of(table.columns[i], i < row.size() ? &row[i] : nullptr);
    body_ += "</tr>\n";
  }
  body_ += "</tbody></table></div>\n";
}

void Page::drawing(const Drawing& drawing, std::string_view caption) {
  body_ += "<figure>\n" + svg_inline(drawing);
  if (!caption.empty()) body_ += fmt::format("<figcaption>{}</figcaption>\n", escape_xml(caption));
  body_ += "</figure>\n";
}

std::string Page::html() const {
  std::string html = fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; "
      "style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\n"
      "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
      "<title>{}</title>\n<style>{}{}</style>\n</head>\n<body>\n<main>\n<h1>{}</h1>\n",
      escape_xml(title_), kSheet, style_sheet(), escape_xml(title_));
  if (!lede_.empty()) html += fmt::format("<p class=\"lede\">{}</p>\n", escape_xml(lede_));
  if (headings_.size() > 2) {
    html += "<nav aria-label=\"Sections\"><ul>\n";
    for (size_t i = 0; i < headings_.size(); ++i)
      html += fmt::format("<li><a href=\"#s{}\">{}</a></li>\n", i + 1, escape_xml(headings_[i]));
    html += "</ul></nav>\n";
  }
  return html + body_ + fmt::format("</main>\n<script>{}</script>\n</body>\n</html>\n", kScript);
}

}  // namespace kvasir::report
