#include "serve/rest_body.hpp"

#include <algorithm>
#include <limits>
#include <utility>

#include "serve/status.hpp"

namespace mpishards::serve {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kVectorsKey = "data";

/// Events of the parser to a document, except that lists of numbers inside the outermost "data" become rows.
class BodyReader final : public nlohmann::json_sax<Json> {
 public:
  explicit BodyReader(RestBody& body) : body_(body) {}

  bool null() override { return value(nullptr); }
  bool boolean(bool is_true) override { return value(is_true); }
  bool number_integer(number_integer_t number) override {
    return is_in_row_ ? coordinate(static_cast<float>(number)) : value(number);
  }
  bool number_unsigned(number_unsigned_t number) override {
    return is_in_row_ ? coordinate(static_cast<float>(number)) : value(number);
  }
  bool number_float(number_float_t number, const string_t& /*text*/) override {
    // Beyond float32's range this is an infinity, which the search refuses by the query's number.
    return is_in_row_ ? coordinate(static_cast<float>(number)) : value(number);
  }
  bool string(string_t& text) override { return value(std::move(text)); }
  bool binary(binary_t& /*bytes*/) override { throw RestSyntaxError("the body is not JSON text"); }

  bool start_object(std::size_t /*size*/) override {
    if (is_in_row_ || (is_in_vectors() && n_rows_ > 0)) refuse_row();
    return open(Json::object());
  }
  bool key(string_t& name) override {
    key_ = name;
    if (open_.size() == 1 && key_ == kVectorsKey && std::exchange(has_data_, true)) {
      throw RestSyntaxError("data is there twice");
    }
    return true;
  }
  bool end_object() override { return close(); }

  bool start_array(std::size_t /*size*/) override {
    if (is_in_row_) refuse_row();
    if (is_in_vectors()) return start_row();
    return open(Json::array());
  }
  bool end_array() override {
    if (is_in_row_) return end_row();
    if (is_in_vectors()) body_.has_vectors = n_rows_ > 0;
    return close();
  }

  bool parse_error(std::size_t place, const std::string& /*token*/,
                   const Json::exception& /*error*/) override {
    throw RestSyntaxError("the body is not JSON: error at byte " + std::to_string(place));
  }

  void finish() {
    if (n_rows_ == 0) return;
    const auto cols = std::ssize(values_) / n_rows_;
    body_.vectors = Matrix(DType::f32, n_rows_, cols);
    std::copy(values_.begin(), values_.end(), body_.vectors.as<float>().data);
  }

 private:
  [[noreturn]] static void refuse_row() {
    throw RequestError(Code::invalid_parameter,
                       "data has to be a list of vectors, which are lists of numbers");
  }

  bool is_in_vectors() const { return open_.size() == 2 && is_vectors_; }

  template <class Value>
  bool value(Value&& value) {
    if (is_in_row_ || (is_in_vectors() && n_rows_ > 0)) refuse_row();
    place(Json(std::forward<Value>(value)));
    return true;
  }

  bool open(Json container) {
    if (std::ssize(open_) >= kMostJsonDepth) {
      throw RestSyntaxError("the body is nested deeper than " + std::to_string(kMostJsonDepth) + " levels");
    }
    if (open_.empty() && !container.is_object()) throw RestSyntaxError("the body has to be a JSON object");
    if (open_.size() == 1) is_vectors_ = container.is_array() && key_ == kVectorsKey;
    open_.push_back(place(std::move(container)));
    return true;
  }

  bool close() {
    open_.pop_back();
    return true;
  }

  Json* place(Json value) {
    if (++n_values_ > kMostJsonValues) {
      throw RestSyntaxError("the body has more than " + std::to_string(kMostJsonValues) +
                            " values beside its vectors; ask for less at once");
    }
    if (open_.empty()) {
      if (!value.is_object()) throw RestSyntaxError("the body has to be a JSON object");
      body_.keys = std::move(value);
      return &body_.keys;
    }
    Json& parent = *open_.back();
    if (parent.is_array()) {
      parent.push_back(std::move(value));
      return &parent.back();
    }
    return &(parent[key_] = std::move(value));
  }

  bool start_row() {
    if (!open_.back()->empty()) refuse_row();
    is_in_row_ = true;
    row_begin_ = values_.size();
    return true;
  }

  bool coordinate(float number) {
    values_.push_back(number);
    return true;
  }

  bool end_row() {
    is_in_row_ = false;
    const std::size_t length = values_.size() - row_begin_;
    if (length == 0) throw RequestError(Code::invalid_parameter, "data holds a vector without numbers");
    if (n_rows_ > 0 && length != row_begin_ / static_cast<std::size_t>(n_rows_)) {
      throw RequestError(Code::invalid_parameter, "vectors of data differ in length: vector " +
                                                      std::to_string(n_rows_) + " has " +
                                                      std::to_string(length));
    }
    ++n_rows_;
    return true;
  }

  RestBody& body_;
  std::vector<Json*> open_;  // a parent never moves while its child is open
  std::string key_;
  bool is_vectors_ = false;  // the open member of the body is the list of vectors
  bool is_in_row_ = false;
  bool has_data_ = false;
  std::vector<float> values_;
  std::size_t row_begin_ = 0;
  std::int64_t n_rows_ = 0;
  std::int64_t n_values_ = 0;
};

}  // namespace

bool RestBody::has(std::string_view key) const {
  const auto found = keys.find(key);
  return found != keys.end() && !found->is_null();
}

std::string RestBody::text(std::string_view key) const {
  if (!has(key)) return "";
  const Json& value = *keys.find(key);
  if (!value.is_string()) throw RequestError(Code::invalid_parameter, std::string(key) + " has to be a text");
  return value.get<std::string>();
}

std::vector<std::string> RestBody::texts(std::string_view key) const {
  if (!has(key)) return {};
  const Json& value = *keys.find(key);
  if (value.is_string()) return {value.get<std::string>()};
  const bool is_list = value.is_array() && std::all_of(value.begin(), value.end(),
                                                       [](const Json& each) { return each.is_string(); });
  if (!is_list) throw RequestError(Code::invalid_parameter, std::string(key) + " has to be a list of texts");
  return value.get<std::vector<std::string>>();
}

RestBody parse_rest_body(std::string_view text) {
  RestBody body;
  if (text.find_first_not_of(" \t\r\n") == std::string_view::npos) return body;
  BodyReader reader(body);
  Json::sax_parse(text, &reader);
  reader.finish();
  return body;
}

}  // namespace mpishards::serve
