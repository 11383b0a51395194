#include "app/html_page.hpp"

namespace mpishards::app {

namespace {

constexpr const char* kStyle = R"(
:root { color-scheme: light dark; --ground: #ffffff; --ink: #1f2328; --soft: #59636e; --line: #d1d9e0; --card: #f6f8fa; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #0d1117; --ink: #e6edf3; --soft: #9198a1; --line: #3d444d; --card: #151b23; } }
body { background: var(--ground); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; max-width: 1100px;
  margin: 0 auto; padding: 24px; }
h1 { font-size: 22px; margin: 0 0 4px; } h2 { font-size: 17px; margin: 32px 0 8px; }
p.sub { color: var(--soft); margin: 0 0 16px; overflow-wrap: anywhere; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(300px, 1fr)); gap: 12px; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 10px 14px; }
.card b { display: block; font-size: 21px; } .card span { color: var(--soft); font-size: 13px; }
.verdict { display: inline-block; padding: 4px 12px; border-radius: 6px; color: #ffffff; font-weight: 600; margin: 8px 0 16px; }
.ok { background: #1a7f37; } .bad { background: #cf222e; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: 14px; }
th, td { border-bottom: 1px solid var(--line); padding: 4px 10px; text-align: right; white-space: nowrap; }
th { color: var(--soft); font-weight: 600; } th:first-child, td:first-child { text-align: left; }
tr.sum td { font-weight: 600; } td.text { text-align: left; white-space: normal; overflow-wrap: anywhere; }
.legend { margin: 0 0 8px; } .legend span { margin-right: 16px; white-space: nowrap; }
.legend i { display: inline-block; width: 12px; height: 12px; border-radius: 2px; margin-right: 6px; }
svg { width: 100%; height: auto; display: block; } svg text { fill: var(--soft); font: 12px system-ui, sans-serif; }
svg .tick { stroke: var(--line); stroke-width: 1; }
pre { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 12px; white-space: pre-wrap;
  overflow-wrap: anywhere; font-size: 13px; }
)";

std::string cell(const std::string& text) {
  return "<td>" + escape_html(text) + "</td>";
}

}  // namespace

std::string escape_html(const std::string& text) {
  std::string escaped;
  for (const char c : text) {
    switch (c) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '"':
        escaped += "&quot;";
        break;
      default:
        escaped += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
    }
  }
  return escaped;
}

std::string page_begin(const PageHead& head) {
  return "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>"
         "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>"
         "<title>" +
         escape_html(head.title) + "</title>\n<style>" + std::string(kStyle) +
         "</style></head>\n<body>\n<h1>" + escape_html(head.heading) + "</h1>\n";
}

std::string page_end() {
  return "</body></html>\n";
}

std::string table_row(const std::vector<std::string>& cells, const char* attributes) {
  std::string row = std::string("<tr") + attributes + ">";
  for (const std::string& text : cells) row += cell(text);
  return row + "</tr>\n";
}

std::string table_head(const std::vector<std::string>& titles) {
  std::string head = "<div class=\"scroll\"><table>\n<tr>";
  for (const std::string& title : titles) head += "<th>" + escape_html(title) + "</th>";
  return head + "</tr>\n";
}

std::string card(const std::string& value, const std::string& label) {
  return "<div class=\"card\"><b>" + escape_html(value) + "</b><span>" + escape_html(label) +
         "</span></div>\n";
}

std::string table_end() {
  return "</table></div>\n";
}

std::string legend_entry(const char* colour, const std::string& name) {
  return format("<span><i style=\"background:%s\"></i>", colour) + escape_html(name) + "</span> ";
}

}  // namespace mpishards::app
