// The files of configs/presets/ as the build found them; embed_presets.cmake writes the source.
#pragma once

#include <map>
#include <string>

namespace p2::spec {

// File name without ".yaml" -> text.
const std::map<std::string, std::string>& EmbeddedPresets();

}  // namespace p2::spec
