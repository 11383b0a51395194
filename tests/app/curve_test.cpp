#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "app/curve_document.hpp"
#include "app/curve_options.hpp"
#include "app/curve_plot.hpp"
#include "core/error.hpp"
#include "rank/recall_curve.hpp"
#include "support/expect_error.hpp"

namespace mpishards::app {
namespace {

using test::expect_error;
using testing::ElementsAre;
using testing::HasSubstr;

CurveDocument two_curves() {
  const MeasuredPoint slow{"nprobe 8", {{1, 1.0}, {10, 1.0}}, 1000, 0.25};
  const MeasuredPoint fast{"nprobe 1", {{1, 0.9}, {10, 0.75}}, 20000, std::nullopt};
  return {.question = {"l2", 500, 7, 20, 10},
          .base = "emb.index",
          .queries = "q.h5:/test",
          .truth = "truth.h5",
          .by_distance = true,
          .curves = {{.name = "a < b",
                      .version = "1",
                      .machine = "m",
                      .ranks = 2,
                      .threads = 3,
                      .build_seconds = 1.5,
                      .bytes_per_vector = 30.25,
                      .points = {fast, slow}},
                     {"peer", "", "", 1, 1, std::nullopt, std::nullopt, {slow}}}};
}

TEST(Nprobes, are_powers_of_two_and_all_lists) {
  EXPECT_THAT(rank::usual_nprobes(1), ElementsAre(1));
  EXPECT_THAT(rank::usual_nprobes(8), ElementsAre(1, 2, 4, 8));
  EXPECT_THAT(parse_nprobes("", 12), ElementsAre(1, 2, 4, 8, 12));
  EXPECT_THAT(parse_nprobes("12,1,4", 12), ElementsAre(1, 4, 12));
}

TEST(Nprobes, that_no_index_has_are_refused) {
  for (const std::string text : {"0", "-1", "13", "1,,2", ",1", "1,", "1;2", "two", "1.5", "2,1,2"})
    expect_error(
        ErrorKind::usage, [&] { parse_nprobes(text, 12); }, "--nprobe " + text);
}

TEST(Median, is_the_middle_or_the_mean_of_both) {
  EXPECT_EQ(rank::median({3}), 3);
  EXPECT_EQ(rank::median({9, 1, 2}), 2);
  EXPECT_EQ(rank::median({8, 1, 2, 4}), 3);
}

TEST(RecallAxis, gives_every_nine_the_same_room) {
  EXPECT_EQ(spread_recall(0), 0);
  EXPECT_NEAR(spread_recall(0.9), 1, 1e-12);
  EXPECT_NEAR(spread_recall(0.999), 3, 1e-9);
  EXPECT_EQ(spread_recall(1), 5);
  EXPECT_EQ(spread_recall(0.9999999), 5);
}

TEST(RecallAxis, reaches_around_the_points_and_is_never_empty) {
  EXPECT_THAT(recall_ticks(0.85, 0.97), ElementsAre(0.8, 0.9, 0.95, 0.99));
  EXPECT_THAT(recall_ticks(0.95, 0.95), ElementsAre(0.95, 0.99));
  EXPECT_THAT(recall_ticks(1, 1), ElementsAre(0.9999, 1));
  EXPECT_THAT(recall_ticks(0, 0), ElementsAre(0, 0.5));
  EXPECT_EQ(recall_ticks(0, 1).size(), 9U);
}

TEST(RateAxis, reaches_around_the_points_and_is_never_empty) {
  EXPECT_THAT(rate_ticks(300, 1100), ElementsAre(200, 500, 1000, 2000));
  EXPECT_THAT(rate_ticks(1000, 1000), ElementsAre(1000, 2000));
  EXPECT_THAT(rate_ticks(5, 70000), ElementsAre(1, 10, 100, 1000, 10000, 100000));
  EXPECT_THAT(rate_ticks(0.3, 0.7), ElementsAre(testing::DoubleEq(0.2), 0.5, 1));
}

TEST(CurvePlot, draws_its_points_where_the_axes_say) {
  const std::string svg = curve_svg(two_curves(), PlotGround::own);
  // From 0.5 to 1, spread 0.30 to 5, and from 1000 to 20000: left edge 84, right 872, top 16, bottom 416.
  EXPECT_THAT(svg, HasSubstr("M134.5 16.0 L872.0 416.0"));
  EXPECT_THAT(svg, HasSubstr("a &lt; b 1, 2 rank(s) of 3 thread(s)"));
  EXPECT_THAT(svg, HasSubstr("a &lt; b, nprobe 1: recall@10 0.7500, 2e+04 queries/s"));
  EXPECT_THAT(svg, HasSubstr("fill=\"#ffffff\""));
  EXPECT_EQ(curve_svg(two_curves(), PlotGround::page).find("<style>"), std::string::npos);
}

TEST(CurveDocument, is_read_as_it_was_written) {
  const nlohmann::json written = to_json(two_curves());
  EXPECT_EQ(written.at("schema"), "mpishards.curve/1");
  EXPECT_EQ(to_json(parse_curve_document(written.dump(), "c.json")), written);
}

TEST(CurveDocument, that_is_damaged_is_refused_with_the_file_and_the_reason) {
  using nlohmann::json;
  const std::vector<std::pair<std::string, std::function<void(json&)>>> cases = {
      {"its schema is other/1", [](json& d) { d["schema"] = "other/1"; }},
      {"its schema is none", [](json& d) { d.erase("schema"); }},
      {"rows", [](json& d) { d.erase("rows"); }},
      {"curves", [](json& d) { d.erase("curves"); }},
      {"no points", [](json& d) { d["curves"][1]["points"] = json::array(); }},
      {"no share", [](json& d) { d["curves"][0]["points"][0]["recall"]["10"] = 1.5; }},
      {"no recall@10", [](json& d) { d["curves"][0]["points"][0]["recall"].erase("10"); }},
      {"no count", [](json& d) { d["curves"][0]["points"][0]["recall"]["ten"] = 0.5; }},
      {"positive", [](json& d) { d["curves"][0]["points"][0]["queries_per_second"] = 0; }},
      {"type", [](json& d) { d["curves"][0]["points"][0]["queries_per_second"] = "fast"; }},
      {"type", [](json& d) { d["curves"][0]["build_seconds"] = "long"; }},
  };
  for (const auto& [reason, damage] : cases) {
    json document = to_json(two_curves());
    damage(document);
    expect_error(
        ErrorKind::data, [&] { parse_curve_document(document.dump(), "c.json"); }, "c.json is no curve",
        reason);
  }
  for (const std::string text : {"", "{", "[]", "7", "\"mpishards.curve/1\"", "{\"schema\": 7}"})
    expect_error(
        ErrorKind::data, [&] { parse_curve_document(text, "c.json"); }, "c.json is no curve");
}

}  // namespace
}  // namespace mpishards::app
