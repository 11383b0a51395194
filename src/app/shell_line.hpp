#pragma once

#include <string>
#include <string_view>

#include "app/command.hpp"

namespace mpishards::app {

/// "mpishards search --base 'my file.h5' -k 10": what a POSIX shell has to be told to run a subcommand again.
std::string shell_line(std::string_view subcommand, const Arguments& arguments);

}  // namespace mpishards::app
