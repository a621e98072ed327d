//! The handshake: client flags, then options until one of them chooses an export.
//!
//! Pure: bytes of one whole option in, reply bytes and a step out. Bounds on an option's length and
//! on the time of a handshake are the connection's.

use super::export::{self, Export};
use super::protocol::*;

const PADDING_BYTES: usize = 124;

/// What a client and the server agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// Index of the export.
    pub export: usize,
    /// Structured replies were negotiated.
    pub structured: bool,
    /// `base:allocation` was chosen for this export.
    pub allocation_context: bool,
}

/// What follows an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Another option.
    Option,
    /// The transmission phase.
    Transmission(Session),
    /// The connection closes when the reply is out.
    Close,
}

/// The state of one client's negotiation.
#[derive(Debug, Default)]
pub struct Handshake {
    fixed_newstyle: bool,
    no_zeroes: bool,
    structured: bool,
    /// Export for which `base:allocation` was chosen last.
    context_export: Option<usize>,
}

/// The bytes with which the server begins.
pub fn greeting() -> Vec<u8> {
    let mut out = Vec::with_capacity(18);
    out.extend_from_slice(&GREETING.to_be_bytes());
    out.extend_from_slice(&OPTION_MAGIC.to_be_bytes());
    out.extend_from_slice(&(handshake_flag::FIXED_NEWSTYLE | handshake_flag::NO_ZEROES).to_be_bytes());
    out
}

impl Handshake {
    /// Takes the client's flags; false when it asks for something unknown, which ends the session.
    pub fn client_flags(&mut self, flags: u32) -> bool {
        self.fixed_newstyle = flags & u32::from(handshake_flag::FIXED_NEWSTYLE) != 0;
        self.no_zeroes = flags & u32::from(handshake_flag::NO_ZEROES) != 0;
        flags & !u32::from(handshake_flag::FIXED_NEWSTYLE | handshake_flag::NO_ZEROES) == 0
    }

    /// Answers an option whose data was too long to take in; it was skipped.
    pub fn oversized(&self, option: u32, out: &mut Vec<u8>) -> Step {
        if option == option::EXPORT_NAME || !self.fixed_newstyle {
            return Step::Close;
        }
        put_option_reply(out, option, option_reply::ERR_TOO_BIG, b"the option is too long");
        Step::Option
    }

    /// Answers an option. While the server drains, every option but ABORT is refused.
    pub fn option(
        &mut self,
        exports: &[Export],
        draining: bool,
        option: u32,
        data: &[u8],
        out: &mut Vec<u8>,
    ) -> Step {
        if option == option::EXPORT_NAME {
            return if draining { Step::Close } else { self.export_name(exports, data, out) };
        }
        if !self.fixed_newstyle {
            return Step::Close;
        }
        let mut reply = |kind, text: &str| put_option_reply(out, option, kind, text.as_bytes());
        match option {
            option::ABORT => {
                reply(option_reply::ACK, "");
                return Step::Close;
            }
            _ if draining => reply(option_reply::ERR_SHUTDOWN, "the server is shutting down"),
            option::LIST => list(exports, data, out),
            option::INFO | option::GO => return self.info(exports, option, data, out),
            option::STRUCTURED_REPLY if data.is_empty() => {
                self.structured = true;
                reply(option_reply::ACK, "");
            }
            option::STRUCTURED_REPLY => reply(option_reply::ERR_INVALID, "this option takes no data"),
            option::LIST_META_CONTEXT | option::SET_META_CONTEXT => {
                self.meta_context(exports, option, data, out);
            }
            option::STARTTLS => reply(option_reply::ERR_UNSUP, "this server has no TLS"),
            _ => reply(option_reply::ERR_UNSUP, "unknown option"),
        }
        Step::Option
    }

    fn session(&self, export: usize) -> Session {
        Session {
            export,
            structured: self.structured,
            allocation_context: self.structured && self.context_export == Some(export),
        }
    }

    fn export_name(&self, exports: &[Export], data: &[u8], out: &mut Vec<u8>) -> Step {
        let name = std::str::from_utf8(data).ok().filter(|name| name.len() <= STRING_BYTES_MAX);
        let Some(export) = name.and_then(|name| export::find(exports, name)) else {
            return Step::Close;
        };
        out.extend_from_slice(&exports[export].disk.bytes().to_be_bytes());
        out.extend_from_slice(&exports[export].flags(self.structured).to_be_bytes());
        if !self.no_zeroes {
            out.extend_from_slice(&[0; PADDING_BYTES]);
        }
        Step::Transmission(self.session(export))
    }

    fn info(&mut self, exports: &[Export], option: u32, data: &[u8], out: &mut Vec<u8>) -> Step {
        let Some((name, wanted)) = parse_info(data) else {
            put_option_reply(out, option, option_reply::ERR_INVALID, b"malformed option");
            return Step::Option;
        };
        let Some(index) = export::find(exports, name) else {
            put_option_reply(out, option, option_reply::ERR_UNKNOWN, b"no such export");
            return Step::Option;
        };
        let export = &exports[index];
        let mut reply = |kind: u16, fields: &[&[u8]]| {
            let data = [&kind.to_be_bytes()[..], &fields.concat()].concat();
            put_option_reply(out, option, option_reply::INFO, &data);
        };
        let flags = export.flags(self.structured);
        reply(info::EXPORT, &[&export.disk.bytes().to_be_bytes(), &flags.to_be_bytes()]);
        if wanted.contains(&info::NAME) {
            reply(info::NAME, &[export.name().as_bytes()]);
        }
        if wanted.contains(&info::DESCRIPTION) {
            reply(info::DESCRIPTION, &[export.description().as_bytes()]);
        }
        // Always told: these sizes are enforced, asked for or not.
        let sizes = export.block_sizes();
        reply(
            info::BLOCK_SIZE,
            &[&sizes.minimum.to_be_bytes(), &sizes.preferred.to_be_bytes(), &sizes.maximum.to_be_bytes()],
        );
        put_option_reply(out, option, option_reply::ACK, &[]);
        if option == option::GO {
            Step::Transmission(self.session(index))
        } else {
            Step::Option
        }
    }

    fn meta_context(&mut self, exports: &[Export], option: u32, data: &[u8], out: &mut Vec<u8>) {
        let setting = option == option::SET_META_CONTEXT;
        if setting {
            self.context_export = None;
        }
        let mut refuse = |kind, text: &str| put_option_reply(out, option, kind, text.as_bytes());
        if !self.structured {
            return refuse(option_reply::ERR_INVALID, "negotiate structured replies first");
        }
        let Some((name, queries)) = parse_meta_context(data) else {
            return refuse(option_reply::ERR_INVALID, "malformed option");
        };
        let Some(export) = export::find(exports, name) else {
            return refuse(option_reply::ERR_UNKNOWN, "no such export");
        };
        let listed = !setting && (queries.is_empty() || queries.contains(&"base:"));
        if listed || queries.contains(&BASE_ALLOCATION) {
            // In a list the number is reserved and zero.
            let id = if setting { BASE_ALLOCATION_ID } else { 0 };
            let context = [&id.to_be_bytes()[..], BASE_ALLOCATION.as_bytes()].concat();
            put_option_reply(out, option, option_reply::META_CONTEXT, &context);
            if setting {
                self.context_export = Some(export);
            }
        }
        put_option_reply(out, option, option_reply::ACK, &[]);
    }
}

fn list(exports: &[Export], data: &[u8], out: &mut Vec<u8>) {
    if !data.is_empty() {
        return put_option_reply(out, option::LIST, option_reply::ERR_INVALID, b"this option takes no data");
    }
    for export in exports {
        let name = export.name().as_bytes();
        let entry = [&(name.len() as u32).to_be_bytes()[..], name, export.description().as_bytes()].concat();
        put_option_reply(out, option::LIST, option_reply::SERVER, &entry);
    }
    put_option_reply(out, option::LIST, option_reply::ACK, &[]);
}

fn parse_info(data: &[u8]) -> Option<(&str, Vec<u16>)> {
    let mut fields = Fields(data);
    let name = fields.string()?;
    let count = usize::from(fields.u16()?);
    if fields.0.len() != 2 * count {
        return None;
    }
    Some((name, std::iter::from_fn(|| fields.u16()).collect()))
}

fn parse_meta_context(data: &[u8]) -> Option<(&str, Vec<&str>)> {
    let mut fields = Fields(data);
    let name = fields.string()?;
    let count = fields.u32()?;
    let mut queries = Vec::new();
    // The data ends long before a count that lies could make this grow.
    for _ in 0..count {
        queries.push(fields.string()?);
    }
    fields.0.is_empty().then_some((name, queries))
}

#[cfg(test)]
mod tests {
    use super::super::export::tests::export;
    use super::*;

    fn exports() -> Vec<Export> {
        vec![export("striped", 512, 1 << 20, 65536), export("linear", 4096, 1000, 4096)]
    }

    fn named(name: &str, tail: &[u8]) -> Vec<u8> {
        [&(name.len() as u32).to_be_bytes()[..], name.as_bytes(), tail].concat()
    }

    /// Replies as (type, data).
    fn replies(mut out: &[u8], option: u32) -> Vec<(u32, Vec<u8>)> {
        let mut all = Vec::new();
        while !out.is_empty() {
            let mut fields = Fields(out);
            assert_eq!(fields.u64(), Some(OPTION_REPLY_MAGIC));
            assert_eq!(fields.u32(), Some(option));
            let kind = fields.u32().expect("type");
            let len = fields.u32().expect("length") as usize;
            all.push((kind, fields.bytes(len).expect("data").to_vec()));
            out = fields.0;
        }
        all
    }

    fn ask(handshake: &mut Handshake, option: u32, data: &[u8]) -> (Step, Vec<(u32, Vec<u8>)>) {
        let mut out = Vec::new();
        let step = handshake.option(&exports(), false, option, data, &mut out);
        (step, replies(&out, option))
    }

    fn fixed() -> Handshake {
        let mut handshake = Handshake::default();
        assert!(handshake.client_flags(3));
        handshake
    }

    #[test]
    fn greeting_and_client_flags() {
        assert_eq!(greeting(), b"NBDMAGICIHAVEOPT\x00\x03");
        assert!(!Handshake::default().client_flags(4), "an unknown flag ends the session");
        let mut old = Handshake::default();
        assert!(old.client_flags(0));
        assert_eq!(old.option(&exports(), false, option::LIST, &[], &mut Vec::new()), Step::Close);
    }

    #[test]
    fn export_name_answers_size_and_flags_with_padding_unless_waived() {
        let mut out = Vec::new();
        let step = fixed().option(&exports(), false, option::EXPORT_NAME, b"linear", &mut out);
        assert_eq!(
            step,
            Step::Transmission(Session { export: 1, structured: false, allocation_context: false })
        );
        assert_eq!(out, [&4_096_000u64.to_be_bytes()[..], &0x016Du16.to_be_bytes()].concat());
        let mut old = Handshake::default();
        assert!(old.client_flags(0));
        out.clear();
        old.option(&exports(), false, option::EXPORT_NAME, b"linear", &mut out);
        assert_eq!(out.len(), 10 + 124);
        assert_eq!(fixed().option(&exports(), false, option::EXPORT_NAME, b"none", &mut out), Step::Close);
    }

    #[test]
    fn go_tells_size_flags_and_block_sizes() {
        let mut handshake = fixed();
        let (step, all) = ask(&mut handshake, option::GO, &named("striped", b"\x00\x02\x00\x01\x00\x02"));
        assert!(matches!(step, Step::Transmission(Session { export: 0, .. })));
        assert_eq!(all[0].1, b"\x00\x00\x00\x00\x00\x00\x20\x00\x00\x00\x01\x6d");
        assert_eq!(all[1].1, b"\x00\x01striped");
        assert_eq!(&all[2].1[..2], b"\x00\x02");
        assert_eq!(all[3].1, b"\x00\x03\x00\x00\x02\x00\x00\x01\x00\x00\x02\x00\x00\x00");
        assert_eq!(all[4], (option_reply::ACK, vec![]));
        let (step, all) = ask(&mut handshake, option::INFO, &named("nothing", b"\x00\x00"));
        assert_eq!((step, all[0].0), (Step::Option, option_reply::ERR_UNKNOWN));
    }

    #[test]
    fn malformed_options_are_refused_and_the_session_goes_on() {
        let mut handshake = fixed();
        ask(&mut handshake, option::STRUCTURED_REPLY, &[]);
        let cases: &[(u32, &[u8])] = &[
            (option::GO, b""),
            (option::GO, b"\x00\x00\x00\x09striped\x00\x00"),
            (option::GO, b"\xff\xff\xff\xffstriped\x00\x00"),
            (option::GO, b"\x00\x00\x00\x07striped\x00\x02\x00\x01"),
            (option::INFO, b"\x00\x00\x00\x02\xff\xfe\x00\x00"),
            (option::LIST, b"x"),
            (option::STRUCTURED_REPLY, b"x"),
            (option::SET_META_CONTEXT, b"\x00\x00\x00\x07striped\xff\xff\xff\xff"),
            (option::SET_META_CONTEXT, b"\x00\x00\x00\x07striped\x00\x00\x00\x00x"),
        ];
        for (option, data) in cases {
            let (step, all) = ask(&mut handshake, *option, data);
            assert_eq!(
                (step, all.len(), all[0].0),
                (Step::Option, 1, option_reply::ERR_INVALID),
                "{option} {data:?}"
            );
        }
        for option in [option::STARTTLS, 4, 11, 4711] {
            assert_eq!(ask(&mut handshake, option, &[]).1[0].0, option_reply::ERR_UNSUP);
        }
        assert_eq!(ask(&mut handshake, option::ABORT, &[]), (Step::Close, vec![(option_reply::ACK, vec![])]));
    }

    #[test]
    fn the_context_counts_only_for_the_export_it_was_chosen_for() {
        let query = b"\x00\x00\x00\x02\x00\x00\x00\x0fbase:allocation\x00\x00\x00\x08x-other:";
        let mut handshake = fixed();
        assert_eq!(
            ask(&mut handshake, option::SET_META_CONTEXT, &named("striped", query)).1[0].0,
            option_reply::ERR_INVALID,
            "structured replies come first"
        );
        ask(&mut handshake, option::STRUCTURED_REPLY, &[]);
        let (_, all) = ask(&mut handshake, option::SET_META_CONTEXT, &named("striped", query));
        assert_eq!(all[0], (option_reply::META_CONTEXT, b"\x00\x00\x00\x01base:allocation".to_vec()));
        assert_eq!(all[1].0, option_reply::ACK);
        assert!(handshake.session(0).allocation_context);
        assert!(!handshake.session(1).allocation_context);
        ask(&mut handshake, option::SET_META_CONTEXT, &named("none", query));
        assert!(!handshake.session(0).allocation_context, "a failed choice clears the earlier one");
    }

    #[test]
    fn contexts_are_listed_by_wildcard() {
        let mut handshake = fixed();
        ask(&mut handshake, option::STRUCTURED_REPLY, &[]);
        for (query, found) in [
            (&b"\x00\x00\x00\x00"[..], true),
            (b"\x00\x00\x00\x01\x00\x00\x00\x05base:", true),
            (b"\x00\x00\x00\x01\x00\x00\x00\x08base:foo", false),
        ] {
            let (_, all) = ask(&mut handshake, option::LIST_META_CONTEXT, &named("linear", query));
            assert_eq!(all.len() == 2, found, "{query:?}");
        }
        let wildcard = named("linear", b"\x00\x00\x00\x01\x00\x00\x00\x05base:");
        assert_eq!(
            ask(&mut handshake, option::SET_META_CONTEXT, &wildcard).1.len(),
            1,
            "a wildcard selects nothing"
        );
    }

    #[test]
    fn draining_refuses_new_sessions() {
        let mut handshake = fixed();
        let mut out = Vec::new();
        let go = named("striped", b"\x00\x00");
        assert_eq!(handshake.option(&exports(), true, option::GO, &go, &mut out), Step::Option);
        assert_eq!(replies(&out, option::GO)[0].0, option_reply::ERR_SHUTDOWN);
        assert_eq!(handshake.option(&exports(), true, option::EXPORT_NAME, b"linear", &mut out), Step::Close);
    }
}
