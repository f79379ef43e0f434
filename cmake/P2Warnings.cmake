# Warnings of p2's own code: errors in every preset, so that none is ever left for later.
add_library(p2_warnings INTERFACE)
target_compile_options(p2_warnings INTERFACE -Wall -Wextra -Wno-unused-parameter -Wno-missing-field-initializers -Werror)
