;; stamp-header: sets one header. Without configuration, the request header x-stamp: edge. With the configuration
;; "name: value", that header in the request and in the answer.
(module
  ;; Pointers and lengths are in bytes of this module's memory. kind is 0 for the request, 1 for the answer.
  (import "http_handler" "get_config" (func $get_config (param $buffer i32) (param $limit i32) (result i32)))
  (import "http_handler" "log" (func $log (param $level i32) (param $text i32) (param $length i32)))
  (import "http_handler" "set_header_value"
    (func $set_header_value (param $kind i32) (param $name i32) (param $name_length i32) (param $value i32) (param $value_length i32)))

  (memory (export "memory") 1)
  (data (i32.const 0) "x-stamp")
  (data (i32.const 16) "edge")
  (data (i32.const 32) "stamp-header: the configuration must be one line, name: value, of at most 1024 bytes")
  (global $config i32 (i32.const 1024)) ;; 1024 bytes from here on
  (global $config_limit i32 (i32.const 1024))

  (global $name (mut i32) (i32.const 0))
  (global $name_length (mut i32) (i32.const 7))
  (global $value (mut i32) (i32.const 16))
  (global $value_length (mut i32) (i32.const 4))
  (global $configured (mut i32) (i32.const 0))

  ;; The configuration is the same for the life of an instance, so it is read once.
  (func (export "_initialize")
    (local $at i32)
    (local $end i32)
    (local.set $end (call $get_config (global.get $config) (global.get $config_limit)))
    (if (i32.eqz (local.get $end)) (then (return)))
    (if (i32.gt_u (local.get $end) (global.get $config_limit)) (then (call $refuse))) ;; and nothing was written
    (local.set $at (global.get $config))
    (local.set $end (i32.add (local.get $end) (global.get $config)))
    (global.set $configured (i32.const 1))

    ;; The name goes up to the colon.
    (global.set $name (local.get $at))
    (block $named
      (loop $next
        (if (i32.eq (local.get $at) (local.get $end)) (then (call $refuse)))
        (br_if $named (i32.eq (i32.load8_u (local.get $at)) (i32.const 0x3a)))
        (if (i32.eqz (call $in_name (i32.load8_u (local.get $at)))) (then (call $refuse)))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br $next)))
    (global.set $name_length (i32.sub (local.get $at) (global.get $name)))
    (if (i32.eqz (global.get $name_length)) (then (call $refuse)))

    ;; The value is the rest, without the spaces before it.
    (local.set $at (i32.add (local.get $at) (i32.const 1)))
    (block $begun
      (loop $next
        (br_if $begun (i32.eq (local.get $at) (local.get $end)))
        (br_if $begun (i32.ne (i32.load8_u (local.get $at)) (i32.const 0x20)))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br $next)))
    (global.set $value (local.get $at))
    (global.set $value_length (i32.sub (local.get $end) (local.get $at)))
    (block $ended
      (loop $next
        (br_if $ended (i32.eq (local.get $at) (local.get $end)))
        ;; A control character, above all a line feed, could begin another header.
        (if (i32.lt_u (i32.load8_u (local.get $at)) (i32.const 0x20)) (then (call $refuse)))
        (if (i32.eq (i32.load8_u (local.get $at)) (i32.const 0x7f)) (then (call $refuse)))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br $next))))

  ;; in_name says whether a character may stand in a header's name here: a letter, a digit, - or _.
  (func $in_name (param $c i32) (result i32)
    (if (i32.eq (local.get $c) (i32.const 0x2d)) (then (return (i32.const 1))))
    (if (i32.eq (local.get $c) (i32.const 0x5f)) (then (return (i32.const 1))))
    (if (i32.lt_u (i32.sub (local.get $c) (i32.const 0x30)) (i32.const 10)) (then (return (i32.const 1))))
    (i32.lt_u (i32.sub (i32.or (local.get $c) (i32.const 0x20)) (i32.const 0x61)) (i32.const 26)))

  ;; refuse ends the instance: a header that is not set must not look like one that is.
  (func $refuse
    (call $log (i32.const 2) (i32.const 32) (i32.const 84))
    (unreachable))

  (func (export "handle_request") (result i64)
    (call $set_header_value (i32.const 0)
      (global.get $name) (global.get $name_length) (global.get $value) (global.get $value_length))
    (if (global.get $configured)
      (then
        (call $set_header_value (i32.const 1)
          (global.get $name) (global.get $name_length) (global.get $value) (global.get $value_length))))
    (i64.const 1)) ;; go on to the next handler

  (func (export "handle_response") (param $context i32) (param $failed i32)))
