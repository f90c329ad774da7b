;; stamp: sets the request header x-stamp: edge, in Proxy-Wasm. It is what wasm-examples/stamp-header does in http-wasm, so
;; that W9 compares the hosts and not the guests.
(module
  (import "env" "proxy_replace_header_map_value"
    (func $replace (param $map i32) (param $name i32) (param $name_length i32) (param $value i32) (param $value_length i32) (result i32)))

  (memory (export "memory") 1)
  (data (i32.const 0) "x-stamp")
  (data (i32.const 16) "edge")

  (func (export "proxy_abi_version_0_2_1"))

  (func (export "proxy_on_request_headers") (param $context i32) (param $headers i32) (param $end i32) (result i32)
    (drop (call $replace (i32.const 0) (i32.const 0) (i32.const 7) (i32.const 16) (i32.const 4))) ;; map 0: the request's
    (i32.const 0))) ;; go on
