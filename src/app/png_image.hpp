#pragma once

#include <string>

namespace mpishards::app {

/// Finds out whether png_of can draw here: before work whose result is to be drawn.
/// @throws Error{unavailable|os} as png_of
void require_png_renderer();

/// An SVG drawing as the bytes of a PNG file, at twice its size, by librsvg's program rsvg-convert.
/// @throws Error{unavailable} where that program is not on the PATH, fails, or takes longer than 20 s;
/// Error{os}
/// @par Cost  a process; some 50 ms
std::string png_of(const std::string& svg);

}  // namespace mpishards::app
