#include "serve/expression.hpp"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <optional>
#include <utility>

#include "serve/status.hpp"

namespace mpishards::serve {

namespace {

enum class TokenKind : std::uint8_t { end, number, text, name, placeholder, symbol };

struct Token {
  TokenKind kind = TokenKind::end;
  std::string_view text;
  std::size_t at = 0;
};

/// An operand of a comparison: the primary key, or a number that ids are compared with.
struct Operand {
  bool is_field = false;
  double real = 0;           // where the number is no integer
  std::int64_t integer = 0;  // where it is
  bool is_integer = true;
};

std::string lower(std::string_view text) {
  std::string result(text);
  std::ranges::transform(result, result.begin(), [](char c) {
    return static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  });
  return result;
}

bool is_name_begin(char c) {
  return std::isalpha(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '$';
}

bool is_digit(char c) {
  return std::isdigit(static_cast<unsigned char>(c)) != 0;
}

class Lexer {
 public:
  explicit Lexer(std::string_view text) : text_(text) {}

  Token next() {
    while (at_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[at_])) != 0) ++at_;
    if (at_ == text_.size()) return {TokenKind::end, {}, at_};
    const char c = text_[at_];
    if (is_digit(c) || (c == '.' && at_ + 1 < text_.size() && is_digit(text_[at_ + 1]))) return number();
    if (is_name_begin(c)) return name();
    if (c == '"' || c == '\'') return quoted(c, TokenKind::text);
    if (c == '{') return quoted('}', TokenKind::placeholder);
    return symbol();
  }

 private:
  Token take(TokenKind kind, std::size_t length) {
    const Token token{kind, text_.substr(at_, length), at_};
    at_ += length;
    return token;
  }

  Token number() {
    std::size_t end = at_;
    while (end < text_.size()) {
      const char c = text_[end];
      const bool sign_of_exponent =
          (c == '-' || c == '+') && (text_[end - 1] == 'e' || text_[end - 1] == 'E') && end > at_;
      if (!is_digit(c) && c != '.' && c != 'e' && c != 'E' && !sign_of_exponent) break;
      ++end;
    }
    return take(TokenKind::number, end - at_);
  }

  Token name() {
    std::size_t end = at_;
    while (end < text_.size() && (is_name_begin(text_[end]) || is_digit(text_[end]))) ++end;
    return take(TokenKind::name, end - at_);
  }

  /// From the character at hand to `close`; the token's text is what lies between.
  Token quoted(char close, TokenKind kind) {
    const std::size_t end = text_.find(close, at_ + 1);
    if (end == std::string_view::npos)
      throw RequestError(Code::invalid_parameter, "cannot parse expression: no closing " +
                                                      std::string(1, close) + " for position " +
                                                      std::to_string(at_));
    const Token token{kind, text_.substr(at_ + 1, end - at_ - 1), at_};
    at_ = end + 1;
    return token;
  }

  Token symbol() {
    for (const std::string_view pair : {"==", "!=", "<=", ">=", "&&", "||"})
      if (text_.substr(at_).starts_with(pair)) return take(TokenKind::symbol, 2);
    std::size_t length = 1;
    while (at_ + length < text_.size() && is_inside_character(text_[at_ + length])) ++length;
    return take(TokenKind::symbol, length);
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

/// Recursive descent: or, and, not, comparison.
class Parser {
 public:
  Parser(std::string_view text, std::string_view field, const TemplateValues& templates)
      : lexer_(text), field_(field), templates_(templates) {
    advance();
  }

  IdSet whole() {
    if (token_.kind == TokenKind::end) return IdSet::all();
    IdSet set = either();
    if (token_.kind != TokenKind::end) fail("an operator or the end");
    return set;
  }

 private:
  void advance() { token_ = lexer_.next(); }

  [[noreturn]] void fail(const std::string& wanted) const {
    const std::string found =
        token_.kind == TokenKind::end ? "the end" : "'" + std::string(token_.text) + "'";
    throw RequestError(Code::invalid_parameter, "cannot parse expression: found " + found + " at position " +
                                                    std::to_string(token_.at) + ", expected " + wanted);
  }

  bool is_symbol(std::string_view text) const {
    return token_.kind == TokenKind::symbol && token_.text == text;
  }
  bool is_word(std::string_view word) const {
    return token_.kind == TokenKind::name && lower(token_.text) == word;
  }
  bool accept_symbol(std::string_view text) {
    if (!is_symbol(text)) return false;
    advance();
    return true;
  }
  bool accept_word(std::string_view word) {
    if (!is_word(word)) return false;
    advance();
    return true;
  }

  /// Neighbors first, then their neighbors: a chain of n terms reads each interval log n times, not n times.
  template <class Join>
  static IdSet joined(std::vector<IdSet> sets, Join join) {
    for (std::size_t step = 1; step < sets.size(); step *= 2)
      for (std::size_t i = 0; i + step < sets.size(); i += 2 * step)
        sets[i] = join(sets[i], std::exchange(sets[i + step], {}));
    return std::move(sets.front());
  }
  static IdSet all_of(std::vector<IdSet> sets) {
    return joined(std::move(sets), [](const IdSet& a, const IdSet& b) { return intersection(a, b); });
  }
  static IdSet any_of(std::vector<IdSet> sets) {
    return joined(std::move(sets), [](const IdSet& a, const IdSet& b) { return united(a, b); });
  }

  IdSet either() {
    std::vector<IdSet> sets;
    sets.push_back(both());
    while (accept_word("or") || accept_symbol("||")) sets.push_back(both());
    return any_of(std::move(sets));
  }

  IdSet both() {
    std::vector<IdSet> sets;
    sets.push_back(negated());
    while (accept_word("and") || accept_symbol("&&")) sets.push_back(negated());
    return all_of(std::move(sets));
  }

  IdSet negated() {
    if (++depth_ > kMostExpressionDepth)
      throw RequestError(Code::invalid_parameter, "cannot parse expression: it is nested too deeply");
    const bool is_negated = accept_word("not") || accept_symbol("!");
    IdSet set = is_negated ? negated().complement() : primary();
    --depth_;
    return set;
  }

  IdSet primary() {
    if (accept_symbol("(")) {
      IdSet set = either();
      if (!accept_symbol(")")) fail("')'");
      return set;
    }
    if (accept_word("true")) return IdSet::all();
    if (accept_word("false")) return {};
    return comparison();
  }

  IdSet comparison() {
    Operand left = operand();
    if (left.is_field && (is_word("in") || is_word("not"))) return membership();
    std::vector<IdSet> steps;
    while (const std::optional<std::string_view> comparator = comparison_sign()) {
      const Operand right = operand();
      steps.push_back(compare(left, *comparator, right));
      left = right;
    }
    if (steps.empty()) fail("a comparison");
    return all_of(std::move(steps));
  }

  IdSet membership() {
    const bool is_negated = accept_word("not");
    if (!accept_word("in")) fail("'in'");
    const IdSet set = IdSet::of(list());
    return is_negated ? set.complement() : set;
  }

  std::vector<GlobalId> list() {
    std::vector<GlobalId> ids;
    if (token_.kind == TokenKind::placeholder) {
      const TemplateValue& value = template_value();
      if (!std::holds_alternative<std::vector<std::int64_t>>(value))
        fail("a placeholder for a list of integers");
      advance();
      return std::get<std::vector<std::int64_t>>(value);
    }
    if (!accept_symbol("[")) fail("'['");
    while (!accept_symbol("]")) {
      const Operand element = operand();
      if (element.is_field || !element.is_integer)
        throw RequestError(Code::invalid_parameter,
                           "cannot parse expression: the list holds more than integers");
      ids.push_back(element.integer);
      if (!is_symbol("]") && !accept_symbol(",")) fail("',' or ']'");
    }
    return ids;
  }

  std::optional<std::string_view> comparison_sign() {
    for (const std::string_view sign : {"==", "!=", "<=", ">=", "<", ">"})
      if (is_symbol(sign)) {
        advance();
        return sign;
      }
    return std::nullopt;
  }

  Operand operand() {
    if (token_.kind == TokenKind::name) return field();
    if (token_.kind == TokenKind::placeholder) return from_template();
    const bool is_negative = accept_symbol("-");
    if (!is_negative) accept_symbol("+");
    if (token_.kind == TokenKind::text)
      throw RequestError(Code::invalid_parameter, "cannot parse expression: the primary key '" +
                                                      std::string(field_) + "' is an Int64, not the text '" +
                                                      std::string(token_.text) + "'");
    if (token_.kind != TokenKind::number) fail("a number or the primary key");
    const Operand number = parse_number((is_negative ? "-" : "") + std::string(token_.text));
    advance();
    return number;
  }

  Operand field() {
    if (token_.text != field_)
      throw RequestError(Code::field_not_found, "field " + std::string(token_.text) +
                                                    " not exist: expressions may name the primary key '" +
                                                    std::string(field_) + "' alone");
    advance();
    return {.is_field = true};
  }

  const TemplateValue& template_value() const {
    const auto found = templates_.find(token_.text);
    if (found == templates_.end())
      throw RequestError(Code::invalid_parameter, "the value of the expression's placeholder {" +
                                                      std::string(token_.text) + "} is missing");
    return found->second;
  }

  Operand from_template() {
    const TemplateValue& value = template_value();
    advance();
    if (const auto* integer = std::get_if<std::int64_t>(&value)) return {.integer = *integer};
    if (const auto* real = std::get_if<double>(&value)) return from_real(*real);
    throw RequestError(Code::invalid_parameter, "the expression's placeholder stands for no number");
  }

  static Operand from_real(double real) {
    if (std::isnan(real)) throw RequestError(Code::invalid_parameter, "cannot compare ids with NaN");
    return {.real = real, .is_integer = false};
  }

  static Operand parse_number(const std::string& text) {
    Operand number;
    const char* end = text.data() + text.size();
    if (const auto [stop, error] = std::from_chars(text.data(), end, number.integer);
        error == std::errc() && stop == end)
      return number;
    double real = 0;
    if (const auto [stop, error] = std::from_chars(text.data(), end, real);
        error == std::errc() && stop == end)
      return from_real(real);
    throw RequestError(Code::invalid_parameter, "cannot parse expression: '" + text + "' is no number");
  }

  static IdSet compare(const Operand& left, std::string_view sign, const Operand& right) {
    if (left.is_field && right.is_field)
      throw RequestError(Code::invalid_parameter,
                         "cannot parse expression: the primary key is compared with itself");
    if (left.is_field) return matching(sign, right);
    if (right.is_field) return matching(mirrored(sign), left);
    const double a = left.is_integer ? static_cast<double>(left.integer) : left.real;
    const double b = right.is_integer ? static_cast<double>(right.integer) : right.real;
    const bool holds = sign == "=="   ? a == b
                       : sign == "!=" ? a != b
                       : sign == "<"  ? a < b
                       : sign == "<=" ? a <= b
                       : sign == ">"  ? a > b
                                      : a >= b;
    return holds ? IdSet::all() : IdSet();
  }

  static std::string_view mirrored(std::string_view sign) {
    if (sign == "<") return ">";
    if (sign == "<=") return ">=";
    if (sign == ">") return "<";
    if (sign == ">=") return "<=";
    return sign;
  }

  /// Ids with `id sign number`.
  static IdSet matching(std::string_view sign, const Operand& number) {
    if (sign == "!=") return matching("==", number).complement();
    if (sign == ">=") return matching("<", number).complement();
    if (sign == ">") return matching("<=", number).complement();
    if (!number.is_integer) return matching_real(sign, number.real);
    const std::int64_t value = number.integer;
    if (sign == "==") return IdSet::of_interval(value, value);
    if (sign == "<=") return IdSet::of_interval(IdSet::kSmallest, value);
    return value == IdSet::kSmallest ? IdSet() : IdSet::of_interval(IdSet::kSmallest, value - 1);
  }

  /// ==, < or <= with a number that may lie between or beyond the integers.
  static IdSet matching_real(std::string_view sign, double value) {
    constexpr double kBeyond = 0x1p63;
    const double below = std::floor(value);
    const bool is_whole = below == value;
    if (sign == "==") {
      if (!is_whole || value >= kBeyond || value < -kBeyond) return {};
      const auto whole = static_cast<std::int64_t>(value);
      return IdSet::of_interval(whole, whole);
    }
    if (value >= kBeyond) return IdSet::all();
    if (value < -kBeyond) return {};
    const auto last = static_cast<std::int64_t>(below);
    if (sign == "<" && is_whole)
      return last == IdSet::kSmallest ? IdSet() : IdSet::of_interval(IdSet::kSmallest, last - 1);
    return IdSet::of_interval(IdSet::kSmallest, last);
  }

  Lexer lexer_;
  std::string_view field_;
  const TemplateValues& templates_;
  Token token_;
  int depth_ = 0;
};

}  // namespace

IdSet parse_expression(std::string_view text, std::string_view field, const TemplateValues& templates) {
  return Parser(text, field, templates).whole();
}

}  // namespace mpishards::serve
