#pragma once

#include <gtest/gtest.h>

#include <initializer_list>
#include <string>

#include "core/error.hpp"

namespace mpishards::test {

/// Runs `step` and expects an Error of this kind whose text is one line and contains every one of `parts`.
/// @return the text
template <class Step, class... Parts>
std::string expect_error(ErrorKind kind, const Step& step, const Parts&... parts) {
  try {
    step();
    ADD_FAILURE() << "no error, expected one of kind " << to_string(kind);
    return "";
  } catch (const Error& error) {
    const std::string text = error.what();
    EXPECT_EQ(to_string(error.kind()), to_string(kind)) << text;
    EXPECT_EQ(text.find('\n'), std::string::npos) << text;
    for (const std::string& part : std::initializer_list<std::string>{parts...})
      EXPECT_NE(text.find(part), std::string::npos) << "no '" << part << "' in: " << text;
    return text;
  }
}

}  // namespace mpishards::test
