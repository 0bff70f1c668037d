//! Tests of `[[sink]]`: the kinds that write to a file or over TCP.

use super::sink_tests::sink;
use super::tests::problems;

#[test]
fn a_wrong_value_is_reported_with_the_accepted_form() {
    for (text, problem) in [
        (
            sink("kind = 'file'\npath = '/x'\nkeep = 3"),
            "5: sink.keep: is of no use alone; set max_size or max_age too",
        ),
        (
            sink("kind = 'syslog'\naddress = 'logs'"),
            "4: sink.address: \"logs\" is not HOST:PORT; use HOST:PORT in quotes such as \"logs.example.net:6514\"",
        ),
        (
            sink("kind = 'syslog'\naddress = 'logs:1'\nca_file = '/ca'"),
            "5: sink.ca_file: is of no use without TLS; set tls = true, or leave it out",
        ),
        (
            sink("kind = 'syslog'\naddress = 'logs:1'\nsd_id = 'a b'"),
            "5: sink.sd_id: \"a b\" is not a name of structured data; use 1 to 32 letters, digits and signs, such as \"netsensor@32473\"",
        ),
    ] {
        assert_eq!(problems(&text), [problem], "{text}");
    }
}
