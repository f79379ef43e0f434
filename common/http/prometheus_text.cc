#include "common/http/prometheus_text.h"

#include <iterator>
#include <sstream>
#include <utility>

#include "prometheus/text_serializer.h"

namespace p2::http {

Handler MetricsHandler(std::vector<std::weak_ptr<prometheus::Collectable>> collectables) {
  return [collectables = std::move(collectables)] {
    std::vector<prometheus::MetricFamily> families;
    for (const auto& weak : collectables) {
      if (const auto collectable = weak.lock()) {
        std::vector<prometheus::MetricFamily> more = collectable->Collect();
        families.insert(families.end(), std::make_move_iterator(more.begin()), std::make_move_iterator(more.end()));
      }
    }
    std::ostringstream text;
    prometheus::TextSerializer().Serialize(text, families);
    return Response{.content_type = "text/plain; version=0.0.4; charset=utf-8", .body = text.str()};
  };
}

}  // namespace p2::http
