# Generates C++ from proto/ and third_party/googleapis into ${CMAKE_BINARY_DIR}/gen.
#   p2_proto: all messages (libprotobuf only; the trainer's seam may link it).
#   p2_grpc:  the services of p2.v1 (gRPC; never linked by p2-trainer).
set(P2_GEN_DIR "${CMAKE_BINARY_DIR}/gen")
file(MAKE_DIRECTORY "${P2_GEN_DIR}")
set(_proto_root "${CMAKE_SOURCE_DIR}/proto")
set(_google_root "${CMAKE_SOURCE_DIR}/third_party/googleapis")
file(GLOB _p2_protos CONFIGURE_DEPENDS RELATIVE "${_proto_root}"
  "${_proto_root}/p2/v1/*.proto" "${_proto_root}/p2/trainer/v1/*.proto" "${_proto_root}/p2/storage/v1/*.proto")
file(GLOB _google_protos RELATIVE "${_google_root}" "${_google_root}/google/rpc/*.proto")

set(_pb_srcs)
set(_grpc_srcs)
foreach(_proto IN LISTS _p2_protos _google_protos)
  string(REGEX REPLACE "\\.proto$" "" _stem "${_proto}")
  if(_proto MATCHES "^google/")
    set(_file "${_google_root}/${_proto}")
  else()
    set(_file "${_proto_root}/${_proto}")
  endif()
  set(_out "${P2_GEN_DIR}/${_stem}.pb.cc" "${P2_GEN_DIR}/${_stem}.pb.h")
  set(_args "--cpp_out=${P2_GEN_DIR}")
  file(STRINGS "${_file}" _services REGEX "^service ")
  if(_services)
    list(APPEND _args "--grpc_out=${P2_GEN_DIR}" "--plugin=protoc-gen-grpc=$<TARGET_FILE:gRPC::grpc_cpp_plugin>")
    list(APPEND _out "${P2_GEN_DIR}/${_stem}.grpc.pb.cc" "${P2_GEN_DIR}/${_stem}.grpc.pb.h")
    list(APPEND _grpc_srcs "${P2_GEN_DIR}/${_stem}.grpc.pb.cc")
  endif()
  list(APPEND _pb_srcs "${P2_GEN_DIR}/${_stem}.pb.cc")
  list(TRANSFORM _p2_protos PREPEND "${_proto_root}/" OUTPUT_VARIABLE _all_protos)
  add_custom_command(OUTPUT ${_out}
    COMMAND protobuf::protoc ${_args} "-I${_proto_root}" "-I${_google_root}" "${_file}"
    DEPENDS "${_file}" ${_all_protos} VERBATIM COMMENT "protoc ${_proto}")
endforeach()

add_library(p2_proto STATIC ${_pb_srcs})
target_include_directories(p2_proto SYSTEM PUBLIC "${P2_GEN_DIR}")
target_link_libraries(p2_proto PUBLIC protobuf::libprotobuf)
if(_grpc_srcs)
add_library(p2_grpc STATIC ${_grpc_srcs})
target_link_libraries(p2_grpc PUBLIC p2_proto gRPC::grpc++)
endif()
