#include "serve/expression.hpp"

#include <gtest/gtest.h>

#include <random>

#include "serve/status.hpp"

namespace mpishards::serve {
namespace {

constexpr GlobalId kFrom = -5;
constexpr GlobalId kTo = 25;

std::vector<GlobalId> chosen(const std::string& text, const TemplateValues& templates = {}) {
  const IdSet set = parse_expression(text, "id", templates);
  std::vector<GlobalId> ids;
  for (GlobalId id = kFrom; id < kTo; ++id)
    if (set.contains(id)) ids.push_back(id);
  return ids;
}

template <class Predicate>
std::vector<GlobalId> those(Predicate predicate) {
  std::vector<GlobalId> ids;
  for (GlobalId id = kFrom; id < kTo; ++id)
    if (predicate(id)) ids.push_back(id);
  return ids;
}

Code refusal_of(const std::string& text) {
  try {
    parse_expression(text, "id");
  } catch (const RequestError& error) {
    return error.code();
  }
  return Code::ok;
}

TEST(Expression, comparisons_select_what_they_say) {
  EXPECT_EQ(chosen("id == 3"), those([](GlobalId id) { return id == 3; }));
  EXPECT_EQ(chosen("id != 3"), those([](GlobalId id) { return id != 3; }));
  EXPECT_EQ(chosen("id < 3"), those([](GlobalId id) { return id < 3; }));
  EXPECT_EQ(chosen("id <= 3"), those([](GlobalId id) { return id <= 3; }));
  EXPECT_EQ(chosen("id > 3"), those([](GlobalId id) { return id > 3; }));
  EXPECT_EQ(chosen("id >= -3"), those([](GlobalId id) { return id >= -3; }));
  EXPECT_EQ(chosen("3 < id"), those([](GlobalId id) { return id > 3; }));
  EXPECT_EQ(chosen("5 <= id < 9"), those([](GlobalId id) { return id >= 5 && id < 9; }));
  EXPECT_EQ(chosen("id > 3.5"), those([](GlobalId id) { return id >= 4; }));
  EXPECT_EQ(chosen("id >= 4.0"), those([](GlobalId id) { return id >= 4; }));
  EXPECT_EQ(chosen("id < 4.0"), those([](GlobalId id) { return id < 4; }));
  EXPECT_EQ(chosen("id == 4.5"), those([](GlobalId) { return false; }));
  EXPECT_EQ(chosen("id < 1e300"), those([](GlobalId) { return true; }));
}

/// Each term is read a few times, however many there are: a megabyte of them took minutes.
TEST(Expression, long_chains_are_quick) {
  std::string any = "id == 0";
  std::string all = "id != 0";
  std::string chain = "0 != id";
  for (int id = 2; id < 200'000; id += 2) {
    any += " or id == " + std::to_string(id);
    all += " and id != " + std::to_string(id);
    chain += " != " + std::to_string(id) + " != id";
  }
  const IdSet even = parse_expression(any, "id");
  EXPECT_EQ(even.intervals().size(), 100'000U);
  EXPECT_EQ(even.complement(), parse_expression(all, "id"));
  EXPECT_EQ(even.complement(), parse_expression(chain, "id"));
}

TEST(Expression, lists_and_logic_combine) {
  EXPECT_EQ(chosen("id in [1, 2, 7]"), (std::vector<GlobalId>{1, 2, 7}));
  EXPECT_EQ(chosen("id in []"), std::vector<GlobalId>{});
  EXPECT_EQ(chosen("id not in [1]"), those([](GlobalId id) { return id != 1; }));
  EXPECT_EQ(chosen("id > 3 and id < 6"), (std::vector<GlobalId>{4, 5}));
  EXPECT_EQ(chosen("(id > 3) && !(id > 5)"), (std::vector<GlobalId>{4, 5}));
  EXPECT_EQ(chosen("id == 1 or id == 2 and id == 3"), (std::vector<GlobalId>{1}))
      << "and binds closer than or";
  EXPECT_EQ(chosen("NOT id in [1] AND id < 3 || id == 9"),
            those([](GlobalId id) { return (id != 1 && id < 3) || id == 9; }));
  EXPECT_EQ(chosen(""), those([](GlobalId) { return true; }));
  EXPECT_EQ(chosen("true"), those([](GlobalId) { return true; }));
}

TEST(Expression, placeholders_are_filled_in) {
  EXPECT_EQ(chosen("id in {ids}", {{"ids", std::vector<std::int64_t>{4, 6}}}), (std::vector<GlobalId>{4, 6}));
  EXPECT_EQ(chosen("id < {top}", {{"top", std::int64_t{0}}}), those([](GlobalId id) { return id < 0; }));
}

TEST(Expression, the_ends_of_the_number_range_do_not_overflow) {
  EXPECT_TRUE(parse_expression("id < -9223372036854775808", "id").is_empty());
  EXPECT_TRUE(parse_expression("id <= 9223372036854775807", "id").is_all());
  EXPECT_TRUE(parse_expression("id > 9223372036854775807", "id").is_empty());
  EXPECT_TRUE(parse_expression("not (id == 5)", "id").complement() == IdSet::of({5}));
}

TEST(Expression, what_is_wrong_is_refused) {
  for (const char* text :
       {"id", "id ==", "id == 'x'", "id in [1", "(id == 1", "id == 1)", "== 1", "id in [1.5]", "id @ 3",
        "id in 5", "id == 1 id == 2", "\"", "{a}", "id == {a}", "1 2", "id == 1e", "id == id"})
    EXPECT_EQ(refusal_of(text), Code::invalid_parameter) << text;
  EXPECT_EQ(refusal_of("price > 3"), Code::field_not_found);
}

TEST(Expression, a_refusal_quotes_whole_characters) {
  try {
    parse_expression("id == \xC3\xA9", "id");
    FAIL() << "it was taken";
  } catch (const RequestError& error) {
    EXPECT_NE(std::string(error.what()).find("found '\xC3\xA9' at position 6"), std::string::npos)
        << error.what();
  }
}

TEST(Expression, deep_nesting_is_refused_and_long_lists_are_not) {
  EXPECT_EQ(refusal_of(std::string(100000, '(')), Code::invalid_parameter);
  EXPECT_EQ(refusal_of(std::string(100000, '!') + "true"), Code::invalid_parameter);
  std::string list = "id in [0";
  for (int i = 1; i < 50000; ++i) list += "," + std::to_string(i * 2);
  EXPECT_EQ(parse_expression(list + "]", "id").intervals().size(), 50000U);
}

TEST(Expression, random_text_never_does_more_than_throw) {
  const std::string letters = "id in[]()<>=!&|not and or 0123.-e{}'\"x,";
  std::mt19937 random(7);
  for (int round = 0; round < 20000; ++round) {
    std::string text;
    for (std::size_t i = random() % 30; i > 0; --i) text += letters[random() % letters.size()];
    try {
      parse_expression(text, "id");
    } catch (const RequestError&) {
      continue;
    }
  }
}

TEST(IdSet, set_algebra_agrees_with_membership) {
  std::mt19937 random(3);
  const auto random_set = [&] {
    std::vector<GlobalId> ids;
    for (std::size_t i = random() % 12; i > 0; --i) ids.push_back(static_cast<GlobalId>(random() % 20));
    IdSet set = IdSet::of(ids);
    return random() % 2 == 0 ? set : set.complement();
  };
  for (int round = 0; round < 500; ++round) {
    const IdSet a = random_set();
    const IdSet b = random_set();
    for (GlobalId id = -2; id < 24; ++id) {
      ASSERT_EQ(intersection(a, b).contains(id), a.contains(id) && b.contains(id));
      ASSERT_EQ(united(a, b).contains(id), a.contains(id) || b.contains(id));
      ASSERT_EQ(a.complement().contains(id), !a.contains(id));
    }
    ASSERT_EQ(a.complement().complement(), a);
  }
}

}  // namespace
}  // namespace mpishards::serve
