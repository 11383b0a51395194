#include "app/shell_line.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <memory>

namespace mpishards::app {
namespace {

/// What a real shell makes of the words of a line, one a line.
std::string words_by_shell(const std::string& line) {
  const std::string command = "printf '%s\n' " + line;
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> shell(popen(command.c_str(), "r"), &pclose);
  std::string words;
  std::array<char, 256> block{};
  while (std::fgets(block.data(), block.size(), shell.get()) != nullptr) words += block.data();
  return words;
}

TEST(ShellLine, plain_words_stay_as_typed) {
  EXPECT_EQ(shell_line("search", {"--base", "a/b-1.h5:/train", "-k", "10"}),
            "mpishards search --base a/b-1.h5:/train -k 10");
}

TEST(ShellLine, a_shell_reads_back_what_was_typed) {
  const Arguments arguments = {"--base", "it's here.h5", "", "*.h5", "$HOME `id`", "back\\slash", "~",
                               "#",      "a\"b"};
  std::string expected = "mpishards\nsearch\n";
  for (const std::string& argument : arguments) expected += argument + "\n";
  EXPECT_EQ(words_by_shell(shell_line("search", arguments)), expected);
}

}  // namespace
}  // namespace mpishards::app
