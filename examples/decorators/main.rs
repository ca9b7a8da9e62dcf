//! scratch
#![allow(dead_code)]
#[larder::mcache]
pub fn function0(a: u64) -> u64 { a }
#[larder::mcache]
pub fn function1(a: &str) -> String { a.to_owned() }
#[larder::mcache]
pub fn function2(a: u32, b: &str) -> usize { b.len() + a as usize }
#[larder::bcache]
pub async fn function3(a: &[u8]) -> Vec<u8> { a.to_vec() }
#[larder::ucache]
pub fn function4(a: u64, b: u64) -> Result<u64, String> { a.checked_add(b).ok_or_else(String::new) }
#[larder::mcache]
pub fn function5(a: f64) -> f64 { a * 2.0 }
#[larder::mcache]
pub fn function6(a: Option<u8>) -> Option<u8> { a }
#[larder::mcache]
pub async fn function7(a: String) -> std::sync::Arc<str> { a.into() }
#[larder::bcache]
pub fn function8(a: (u8, char)) -> bool { a.1 == char::from(a.0) }
#[larder::ucache]
pub fn function9(a: i32) -> Vec<String> { vec![a.to_string()] }
#[larder::mcache]
pub fn function10(a: u64) -> u64 { a }
#[larder::mcache]
pub async fn function11(a: &str) -> String { a.to_owned() }
#[larder::mcache]
pub fn function12(a: u32, b: &str) -> usize { b.len() + a as usize }
#[larder::bcache]
pub fn function13(a: &[u8]) -> Vec<u8> { a.to_vec() }
#[larder::ucache]
pub fn function14(a: u64, b: u64) -> Result<u64, String> { a.checked_add(b).ok_or_else(String::new) }
#[larder::mcache]
pub async fn function15(a: f64) -> f64 { a * 2.0 }
#[larder::mcache]
pub fn function16(a: Option<u8>) -> Option<u8> { a }
#[larder::mcache]
pub fn function17(a: String) -> std::sync::Arc<str> { a.into() }
#[larder::bcache]
pub fn function18(a: (u8, char)) -> bool { a.1 == char::from(a.0) }
#[larder::ucache]
pub async fn function19(a: i32) -> Vec<String> { vec![a.to_string()] }
#[larder::mcache]
pub fn function20(a: u64) -> u64 { a }
#[larder::mcache]
pub fn function21(a: &str) -> String { a.to_owned() }
#[larder::mcache]
pub fn function22(a: u32, b: &str) -> usize { b.len() + a as usize }
#[larder::bcache]
pub async fn function23(a: &[u8]) -> Vec<u8> { a.to_vec() }
#[larder::ucache]
pub fn function24(a: u64, b: u64) -> Result<u64, String> { a.checked_add(b).ok_or_else(String::new) }
#[larder::mcache]
pub fn function25(a: f64) -> f64 { a * 2.0 }
#[larder::mcache]
pub fn function26(a: Option<u8>) -> Option<u8> { a }
#[larder::mcache]
pub async fn function27(a: String) -> std::sync::Arc<str> { a.into() }
#[larder::bcache]
pub fn function28(a: (u8, char)) -> bool { a.1 == char::from(a.0) }
#[larder::ucache]
pub fn function29(a: i32) -> Vec<String> { vec![a.to_string()] }
#[larder::mcache]
pub fn function30(a: u64) -> u64 { a }
#[larder::mcache]
pub async fn function31(a: &str) -> String { a.to_owned() }
#[larder::mcache]
pub fn function32(a: u32, b: &str) -> usize { b.len() + a as usize }
#[larder::bcache]
pub fn function33(a: &[u8]) -> Vec<u8> { a.to_vec() }
#[larder::ucache]
pub fn function34(a: u64, b: u64) -> Result<u64, String> { a.checked_add(b).ok_or_else(String::new) }
#[larder::mcache]
pub async fn function35(a: f64) -> f64 { a * 2.0 }
#[larder::mcache]
pub fn function36(a: Option<u8>) -> Option<u8> { a }
#[larder::mcache]
pub fn function37(a: String) -> std::sync::Arc<str> { a.into() }
#[larder::bcache]
pub fn function38(a: (u8, char)) -> bool { a.1 == char::from(a.0) }
#[larder::ucache]
pub async fn function39(a: i32) -> Vec<String> { vec![a.to_string()] }
#[larder::mcache]
pub fn function40(a: u64) -> u64 { a }
#[larder::mcache]
pub fn function41(a: &str) -> String { a.to_owned() }
#[larder::mcache]
pub fn function42(a: u32, b: &str) -> usize { b.len() + a as usize }
#[larder::bcache]
pub async fn function43(a: &[u8]) -> Vec<u8> { a.to_vec() }
#[larder::ucache]
pub fn function44(a: u64, b: u64) -> Result<u64, String> { a.checked_add(b).ok_or_else(String::new) }
#[larder::mcache]
pub fn function45(a: f64) -> f64 { a * 2.0 }
#[larder::mcache]
pub fn function46(a: Option<u8>) -> Option<u8> { a }
#[larder::mcache]
pub async fn function47(a: String) -> std::sync::Arc<str> { a.into() }
#[larder::bcache]
pub fn function48(a: (u8, char)) -> bool { a.1 == char::from(a.0) }
#[larder::ucache]
pub fn function49(a: i32) -> Vec<String> { vec![a.to_string()] }
#[larder::mcache]
pub fn function50(a: u64) -> u64 { a }
#[larder::mcache]
pub async fn function51(a: &str) -> String { a.to_owned() }
#[larder::mcache]
pub fn function52(a: u32, b: &str) -> usize { b.len() + a as usize }
#[larder::bcache]
pub fn function53(a: &[u8]) -> Vec<u8> { a.to_vec() }
#[larder::ucache]
pub fn function54(a: u64, b: u64) -> Result<u64, String> { a.checked_add(b).ok_or_else(String::new) }
#[larder::mcache]
pub async fn function55(a: f64) -> f64 { a * 2.0 }
#[larder::mcache]
pub fn function56(a: Option<u8>) -> Option<u8> { a }
#[larder::mcache]
pub fn function57(a: String) -> std::sync::Arc<str> { a.into() }
#[larder::bcache]
pub fn function58(a: (u8, char)) -> bool { a.1 == char::from(a.0) }
#[larder::ucache]
pub async fn function59(a: i32) -> Vec<String> { vec![a.to_string()] }
#[larder::mcache]
pub fn function60(a: u64) -> u64 { a }
#[larder::mcache]
pub fn function61(a: &str) -> String { a.to_owned() }
#[larder::mcache]
pub fn function62(a: u32, b: &str) -> usize { b.len() + a as usize }
#[larder::bcache]
pub async fn function63(a: &[u8]) -> Vec<u8> { a.to_vec() }
#[larder::ucache]
pub fn function64(a: u64, b: u64) -> Result<u64, String> { a.checked_add(b).ok_or_else(String::new) }
#[larder::mcache]
pub fn function65(a: f64) -> f64 { a * 2.0 }
#[larder::mcache]
pub fn function66(a: Option<u8>) -> Option<u8> { a }
#[larder::mcache]
pub async fn function67(a: String) -> std::sync::Arc<str> { a.into() }
#[larder::bcache]
pub fn function68(a: (u8, char)) -> bool { a.1 == char::from(a.0) }
#[larder::ucache]
pub fn function69(a: i32) -> Vec<String> { vec![a.to_string()] }
#[larder::mcache]
pub fn function70(a: u64) -> u64 { a }
#[larder::mcache]
pub async fn function71(a: &str) -> String { a.to_owned() }
#[larder::mcache]
pub fn function72(a: u32, b: &str) -> usize { b.len() + a as usize }
#[larder::bcache]
pub fn function73(a: &[u8]) -> Vec<u8> { a.to_vec() }
#[larder::ucache]
pub fn function74(a: u64, b: u64) -> Result<u64, String> { a.checked_add(b).ok_or_else(String::new) }
#[larder::mcache]
pub async fn function75(a: f64) -> f64 { a * 2.0 }
#[larder::mcache]
pub fn function76(a: Option<u8>) -> Option<u8> { a }
#[larder::mcache]
pub fn function77(a: String) -> std::sync::Arc<str> { a.into() }
#[larder::bcache]
pub fn function78(a: (u8, char)) -> bool { a.1 == char::from(a.0) }
#[larder::ucache]
pub async fn function79(a: i32) -> Vec<String> { vec![a.to_string()] }
#[larder::mcache]
pub fn function80(a: u64) -> u64 { a }
#[larder::mcache]
pub fn function81(a: &str) -> String { a.to_owned() }
#[larder::mcache]
pub fn function82(a: u32, b: &str) -> usize { b.len() + a as usize }
#[larder::bcache]
pub async fn function83(a: &[u8]) -> Vec<u8> { a.to_vec() }
#[larder::ucache]
pub fn function84(a: u64, b: u64) -> Result<u64, String> { a.checked_add(b).ok_or_else(String::new) }
#[larder::mcache]
pub fn function85(a: f64) -> f64 { a * 2.0 }
#[larder::mcache]
pub fn function86(a: Option<u8>) -> Option<u8> { a }
#[larder::mcache]
pub async fn function87(a: String) -> std::sync::Arc<str> { a.into() }
#[larder::bcache]
pub fn function88(a: (u8, char)) -> bool { a.1 == char::from(a.0) }
#[larder::ucache]
pub fn function89(a: i32) -> Vec<String> { vec![a.to_string()] }
#[larder::mcache]
pub fn function90(a: u64) -> u64 { a }
#[larder::mcache]
pub async fn function91(a: &str) -> String { a.to_owned() }
#[larder::mcache]
pub fn function92(a: u32, b: &str) -> usize { b.len() + a as usize }
#[larder::bcache]
pub fn function93(a: &[u8]) -> Vec<u8> { a.to_vec() }
#[larder::ucache]
pub fn function94(a: u64, b: u64) -> Result<u64, String> { a.checked_add(b).ok_or_else(String::new) }
#[larder::mcache]
pub async fn function95(a: f64) -> f64 { a * 2.0 }
#[larder::mcache]
pub fn function96(a: Option<u8>) -> Option<u8> { a }
#[larder::mcache]
pub fn function97(a: String) -> std::sync::Arc<str> { a.into() }
#[larder::bcache]
pub fn function98(a: (u8, char)) -> bool { a.1 == char::from(a.0) }
#[larder::ucache]
pub async fn function99(a: i32) -> Vec<String> { vec![a.to_string()] }
#[larder::mcache]
pub fn function100(a: u64) -> u64 { a }
#[larder::mcache]
pub fn function101(a: &str) -> String { a.to_owned() }
#[larder::mcache]
pub fn function102(a: u32, b: &str) -> usize { b.len() + a as usize }
#[larder::bcache]
pub async fn function103(a: &[u8]) -> Vec<u8> { a.to_vec() }
#[larder::ucache]
pub fn function104(a: u64, b: u64) -> Result<u64, String> { a.checked_add(b).ok_or_else(String::new) }
#[larder::mcache]
pub fn function105(a: f64) -> f64 { a * 2.0 }
#[larder::mcache]
pub fn function106(a: Option<u8>) -> Option<u8> { a }
#[larder::mcache]
pub async fn function107(a: String) -> std::sync::Arc<str> { a.into() }
#[larder::bcache]
pub fn function108(a: (u8, char)) -> bool { a.1 == char::from(a.0) }
#[larder::ucache]
pub fn function109(a: i32) -> Vec<String> { vec![a.to_string()] }
#[larder::mcache]
pub fn function110(a: u64) -> u64 { a }
#[larder::mcache]
pub async fn function111(a: &str) -> String { a.to_owned() }
#[larder::mcache]
pub fn function112(a: u32, b: &str) -> usize { b.len() + a as usize }
#[larder::bcache]
pub fn function113(a: &[u8]) -> Vec<u8> { a.to_vec() }
#[larder::ucache]
pub fn function114(a: u64, b: u64) -> Result<u64, String> { a.checked_add(b).ok_or_else(String::new) }
#[larder::mcache]
pub async fn function115(a: f64) -> f64 { a * 2.0 }
#[larder::mcache]
pub fn function116(a: Option<u8>) -> Option<u8> { a }
#[larder::mcache]
pub fn function117(a: String) -> std::sync::Arc<str> { a.into() }
#[larder::bcache]
pub fn function118(a: (u8, char)) -> bool { a.1 == char::from(a.0) }
#[larder::ucache]
pub async fn function119(a: i32) -> Vec<String> { vec![a.to_string()] }
#[larder::mcache]
pub fn function120(a: u64) -> u64 { a }
#[larder::mcache]
pub fn function121(a: &str) -> String { a.to_owned() }
#[larder::mcache]
pub fn function122(a: u32, b: &str) -> usize { b.len() + a as usize }
#[larder::bcache]
pub async fn function123(a: &[u8]) -> Vec<u8> { a.to_vec() }
#[larder::ucache]
pub fn function124(a: u64, b: u64) -> Result<u64, String> { a.checked_add(b).ok_or_else(String::new) }
#[larder::mcache]
pub fn function125(a: f64) -> f64 { a * 2.0 }
#[larder::mcache]
pub fn function126(a: Option<u8>) -> Option<u8> { a }
#[larder::mcache]
pub async fn function127(a: String) -> std::sync::Arc<str> { a.into() }
#[larder::bcache]
pub fn function128(a: (u8, char)) -> bool { a.1 == char::from(a.0) }
#[larder::ucache]
pub fn function129(a: i32) -> Vec<String> { vec![a.to_string()] }
#[larder::mcache]
pub fn function130(a: u64) -> u64 { a }
#[larder::mcache]
pub async fn function131(a: &str) -> String { a.to_owned() }
#[larder::mcache]
pub fn function132(a: u32, b: &str) -> usize { b.len() + a as usize }
#[larder::bcache]
pub fn function133(a: &[u8]) -> Vec<u8> { a.to_vec() }
#[larder::ucache]
pub fn function134(a: u64, b: u64) -> Result<u64, String> { a.checked_add(b).ok_or_else(String::new) }
#[larder::mcache]
pub async fn function135(a: f64) -> f64 { a * 2.0 }
#[larder::mcache]
pub fn function136(a: Option<u8>) -> Option<u8> { a }
#[larder::mcache]
pub fn function137(a: String) -> std::sync::Arc<str> { a.into() }
#[larder::bcache]
pub fn function138(a: (u8, char)) -> bool { a.1 == char::from(a.0) }
#[larder::ucache]
pub async fn function139(a: i32) -> Vec<String> { vec![a.to_string()] }
#[larder::mcache]
pub fn function140(a: u64) -> u64 { a }
#[larder::mcache]
pub fn function141(a: &str) -> String { a.to_owned() }
#[larder::mcache]
pub fn function142(a: u32, b: &str) -> usize { b.len() + a as usize }
#[larder::bcache]
pub async fn function143(a: &[u8]) -> Vec<u8> { a.to_vec() }
#[larder::ucache]
pub fn function144(a: u64, b: u64) -> Result<u64, String> { a.checked_add(b).ok_or_else(String::new) }
#[larder::mcache]
pub fn function145(a: f64) -> f64 { a * 2.0 }
#[larder::mcache]
pub fn function146(a: Option<u8>) -> Option<u8> { a }
#[larder::mcache]
pub async fn function147(a: String) -> std::sync::Arc<str> { a.into() }
#[larder::bcache]
pub fn function148(a: (u8, char)) -> bool { a.1 == char::from(a.0) }
#[larder::ucache]
pub fn function149(a: i32) -> Vec<String> { vec![a.to_string()] }
#[larder::mcache]
pub fn function150(a: u64) -> u64 { a }
#[larder::mcache]
pub async fn function151(a: &str) -> String { a.to_owned() }
#[larder::mcache]
pub fn function152(a: u32, b: &str) -> usize { b.len() + a as usize }
#[larder::bcache]
pub fn function153(a: &[u8]) -> Vec<u8> { a.to_vec() }
#[larder::ucache]
pub fn function154(a: u64, b: u64) -> Result<u64, String> { a.checked_add(b).ok_or_else(String::new) }
#[larder::mcache]
pub async fn function155(a: f64) -> f64 { a * 2.0 }
#[larder::mcache]
pub fn function156(a: Option<u8>) -> Option<u8> { a }
#[larder::mcache]
pub fn function157(a: String) -> std::sync::Arc<str> { a.into() }
#[larder::bcache]
pub fn function158(a: (u8, char)) -> bool { a.1 == char::from(a.0) }
#[larder::ucache]
pub async fn function159(a: i32) -> Vec<String> { vec![a.to_string()] }
#[larder::mcache]
pub fn function160(a: u64) -> u64 { a }
#[larder::mcache]
pub fn function161(a: &str) -> String { a.to_owned() }
#[larder::mcache]
pub fn function162(a: u32, b: &str) -> usize { b.len() + a as usize }
#[larder::bcache]
pub async fn function163(a: &[u8]) -> Vec<u8> { a.to_vec() }
#[larder::ucache]
pub fn function164(a: u64, b: u64) -> Result<u64, String> { a.checked_add(b).ok_or_else(String::new) }
#[larder::mcache]
pub fn function165(a: f64) -> f64 { a * 2.0 }
#[larder::mcache]
pub fn function166(a: Option<u8>) -> Option<u8> { a }
#[larder::mcache]
pub async fn function167(a: String) -> std::sync::Arc<str> { a.into() }
#[larder::bcache]
pub fn function168(a: (u8, char)) -> bool { a.1 == char::from(a.0) }
#[larder::ucache]
pub fn function169(a: i32) -> Vec<String> { vec![a.to_string()] }
#[larder::mcache]
pub fn function170(a: u64) -> u64 { a }
#[larder::mcache]
pub async fn function171(a: &str) -> String { a.to_owned() }
#[larder::mcache]
pub fn function172(a: u32, b: &str) -> usize { b.len() + a as usize }
#[larder::bcache]
pub fn function173(a: &[u8]) -> Vec<u8> { a.to_vec() }
#[larder::ucache]
pub fn function174(a: u64, b: u64) -> Result<u64, String> { a.checked_add(b).ok_or_else(String::new) }
#[larder::mcache]
pub async fn function175(a: f64) -> f64 { a * 2.0 }
#[larder::mcache]
pub fn function176(a: Option<u8>) -> Option<u8> { a }
#[larder::mcache]
pub fn function177(a: String) -> std::sync::Arc<str> { a.into() }
#[larder::bcache]
pub fn function178(a: (u8, char)) -> bool { a.1 == char::from(a.0) }
#[larder::ucache]
pub async fn function179(a: i32) -> Vec<String> { vec![a.to_string()] }
#[larder::mcache]
pub fn function180(a: u64) -> u64 { a }
#[larder::mcache]
pub fn function181(a: &str) -> String { a.to_owned() }
#[larder::mcache]
pub fn function182(a: u32, b: &str) -> usize { b.len() + a as usize }
#[larder::bcache]
pub async fn function183(a: &[u8]) -> Vec<u8> { a.to_vec() }
#[larder::ucache]
pub fn function184(a: u64, b: u64) -> Result<u64, String> { a.checked_add(b).ok_or_else(String::new) }
#[larder::mcache]
pub fn function185(a: f64) -> f64 { a * 2.0 }
#[larder::mcache]
pub fn function186(a: Option<u8>) -> Option<u8> { a }
#[larder::mcache]
pub async fn function187(a: String) -> std::sync::Arc<str> { a.into() }
#[larder::bcache]
pub fn function188(a: (u8, char)) -> bool { a.1 == char::from(a.0) }
#[larder::ucache]
pub fn function189(a: i32) -> Vec<String> { vec![a.to_string()] }
#[larder::mcache]
pub fn function190(a: u64) -> u64 { a }
#[larder::mcache]
pub async fn function191(a: &str) -> String { a.to_owned() }
#[larder::mcache]
pub fn function192(a: u32, b: &str) -> usize { b.len() + a as usize }
#[larder::bcache]
pub fn function193(a: &[u8]) -> Vec<u8> { a.to_vec() }
#[larder::ucache]
pub fn function194(a: u64, b: u64) -> Result<u64, String> { a.checked_add(b).ok_or_else(String::new) }
#[larder::mcache]
pub async fn function195(a: f64) -> f64 { a * 2.0 }
#[larder::mcache]
pub fn function196(a: Option<u8>) -> Option<u8> { a }
#[larder::mcache]
pub fn function197(a: String) -> std::sync::Arc<str> { a.into() }
#[larder::bcache]
pub fn function198(a: (u8, char)) -> bool { a.1 == char::from(a.0) }
#[larder::ucache]
pub async fn function199(a: i32) -> Vec<String> { vec![a.to_string()] }
fn main() {
    if std::env::args().count() > 9 { let _ = function0(todo()); }
    if std::env::args().count() > 9 { let _ = function1(todo()); }
    if std::env::args().count() > 9 { let _ = function2(todo(), todo()); }
    if std::env::args().count() > 9 { let _ = runtime().block_on(function3(todo())); }
    if std::env::args().count() > 9 { let _ = function4(todo(), todo()); }
    if std::env::args().count() > 9 { let _ = function5(todo()); }
    if std::env::args().count() > 9 { let _ = function6(todo()); }
    if std::env::args().count() > 9 { let _ = runtime().block_on(function7(todo())); }
    if std::env::args().count() > 9 { let _ = function8(todo()); }
    if std::env::args().count() > 9 { let _ = function9(todo()); }
    if std::env::args().count() > 9 { let _ = function10(todo()); }
    if std::env::args().count() > 9 { let _ = runtime().block_on(function11(todo())); }
    if std::env::args().count() > 9 { let _ = function12(todo(), todo()); }
    if std::env::args().count() > 9 { let _ = function13(todo()); }
    if std::env::args().count() > 9 { let _ = function14(todo(), todo()); }
    if std::env::args().count() > 9 { let _ = runtime().block_on(function15(todo())); }
    if std::env::args().count() > 9 { let _ = function16(todo()); }
    if std::env::args().count() > 9 { let _ = function17(todo()); }
    if std::env::args().count() > 9 { let _ = function18(todo()); }
    if std::env::args().count() > 9 { let _ = runtime().block_on(function19(todo())); }
    if std::env::args().count() > 9 { let _ = function20(todo()); }
    if std::env::args().count() > 9 { let _ = function21(todo()); }
    if std::env::args().count() > 9 { let _ = function22(todo(), todo()); }
    if std::env::args().count() > 9 { let _ = runtime().block_on(function23(todo())); }
    if std::env::args().count() > 9 { let _ = function24(todo(), todo()); }
    if std::env::args().count() > 9 { let _ = function25(todo()); }
    if std::env::args().count() > 9 { let _ = function26(todo()); }
    if std::env::args().count() > 9 { let _ = runtime().block_on(function27(todo())); }
    if std::env::args().count() > 9 { let _ = function28(todo()); }
    if std::env::args().count() > 9 { let _ = function29(todo()); }
    if std::env::args().count() > 9 { let _ = function30(todo()); }
    if std::env::args().count() > 9 { let _ = runtime().block_on(function31(todo())); }
    if std::env::args().count() > 9 { let _ = function32(todo(), todo()); }
    if std::env::args().count() > 9 { let _ = function33(todo()); }
    if std::env::args().count() > 9 { let _ = function34(todo(), todo()); }
    if std::env::args().count() > 9 { let _ = runtime().block_on(function35(todo())); }
    if std::env::args().count() > 9 { let _ = function36(todo()); }
    if std::env::args().count() > 9 { let _ = function37(todo()); }
    if std::env::args().count() > 9 { let _ = function38(todo()); }
    if std::env::args().count() > 9 { let _ = runtime().block_on(function39(todo())); }
    if std::env::args().count() > 9 { let _ = function40(todo()); }
    if std::env::args().count() > 9 { let _ = function41(todo()); }
    if std::env::args().count() > 9 { let _ = function42(todo(), todo()); }
    if std::env::args().count() > 9 { let _ = runtime().block_on(function43(todo())); }
    if std::env::args().count() > 9 { let _ = function44(todo(), todo()); }
    if std::env::args().count() > 9 { let _ = function45(todo()); }
    if std::env::args().count() > 9 { let _ = function46(todo()); }
    if std::env::args().count() > 9 { let _ = runtime().block_on(function47(todo())); }
    if std::env::args().count() > 9 { let _ = function48(todo()); }
    if std::env::args().count() > 9 { let _ = function49(todo()); }
    if std::env::args().count() > 9 { let _ = function50(todo()); }
    if std::env::args().count() > 9 { let _ = runtime().block_on(function51(todo())); }
    if std::env::args().count() > 9 { let _ = function52(todo(), todo()); }
    if std::env::args().count() > 9 { let _ = function53(todo()); }
    if std::env::args().count() > 9 { let _ = function54(todo(), todo()); }
    if std::env::args().count() > 9 { let _ = runtime().block_on(function55(todo())); }
    if std::env::args().count() > 9 { let _ = function56(todo()); }
    if std::env::args().count() > 9 { let _ = function57(todo()); }
    if std::env::args().count() > 9 { let _ = function58(todo()); }
    if std::env::args().count() > 9 { let _ = runtime().block_on(function59(todo())); }
    if std::env::args().count() > 9 { let _ = function60(todo()); }
    if std::env::args().count() > 9 { let _ = function61(todo()); }
    if std::env::args().count() > 9 { let _ = function62(todo(), todo()); }
    if std::env::args().count() > 9 { let _ = runtime().block_on(function63(todo())); }
    if std::env::args().count() > 9 { let _ = function64(todo(), todo()); }
    if std::env::args().count() > 9 { let _ = function65(todo()); }
    if std::env::args().count() > 9 { let _ = function66(todo()); }
    if std::env::args().count() > 9 { let _ = runtime().block_on(function67(todo())); }
    if std::env::args().count() > 9 { let _ = function68(todo()); }
    if std::env::args().count() > 9 { let _ = function69(todo()); }
    if std::env::args().count() > 9 { let _ = function70(todo()); }
    if std::env::args().count() > 9 { let _ = runtime().block_on(function71(todo())); }
    if std::env::args().count() > 9 { let _ = function72(todo(), todo()); }
    if std::env::args().count() > 9 { let _ = function73(todo()); }
    if std::env::args().count() > 9 { let _ = function74(todo(), todo()); }
    if std::env::args().count() > 9 { let _ = runtime().block_on(function75(todo())); }
    if std::env::args().count() > 9 { let _ = function76(todo()); }
    if std::env::args().count() > 9 { let _ = function77(todo()); }
    if std::env::args().count() > 9 { let _ = function78(todo()); }
    if std::env::args().count() > 9 { let _ = runtime().block_on(function79(todo())); }
    if std::env::args().count() > 9 { let _ = function80(todo()); }
    if std::env::args().count() > 9 { let _ = function81(todo()); }
    if std::env::args().count() > 9 { let _ = function82(todo(), todo()); }
    if std::env::args().count() > 9 { let _ = runtime().block_on(function83(todo())); }
    if std::env::args().count() > 9 { let _ = function84(todo(), todo()); }
    if std::env::args().count() > 9 { let _ = function85(todo()); }
    if std::env::args().count() > 9 { let _ = function86(todo()); }
    if std::env::args().count() > 9 { let _ = runtime().block_on(function87(todo())); }
    if std::env::args().count() > 9 { let _ = function88(todo()); }
    if std::env::args().count() > 9 { let _ = function89(todo()); }
    if std::env::args().count() > 9 { let _ = function90(todo()); }
    if std::env::args().count() > 9 { let _ = runtime().block_on(function91(todo())); }
    if std::env::args().count() > 9 { let _ = function92(todo(), todo()); }
    if std::env::args().count() > 9 { let _ = function93(todo()); }
    if std::env::args().count() > 9 { let _ = function94(todo(), todo()); }
    if std::env::args().count() > 9 { let _ = runtime().block_on(function95(todo())); }
    if std::env::args().count() > 9 { let _ = function96(todo()); }
    if std::env::args().count() > 9 { let _ = function97(todo()); }
    if std::env::args().count() > 9 { let _ = function98(todo()); }
    if std::env::args().count() > 9 { let _ = runtime().block_on(function99(todo())); }
    if std::env::args().count() > 9 { let _ = function100(todo()); }
    if std::env::args().count() > 9 { let _ = function101(todo()); }
    if std::env::args().count() > 9 { let _ = function102(todo(), todo()); }
    if std::env::args().count() > 9 { let _ = runtime().block_on(function103(todo())); }
    if std::env::args().count() > 9 { let _ = function104(todo(), todo()); }
    if std::env::args().count() > 9 { let _ = function105(todo()); }
    if std::env::args().count() > 9 { let _ = function106(todo()); }
    if std::env::args().count() > 9 { let _ = runtime().block_on(function107(todo())); }
    if std::env::args().count() > 9 { let _ = function108(todo()); }
    if std::env::args().count() > 9 { let _ = function109(todo()); }
    if std::env::args().count() > 9 { let _ = function110(todo()); }
    if std::env::args().count() > 9 { let _ = runtime().block_on(function111(todo())); }
    if std::env::args().count() > 9 { let _ = function112(todo(), todo()); }
    if std::env::args().count() > 9 { let _ = function113(todo()); }
    if std::env::args().count() > 9 { let _ = function114(todo(), todo()); }
    if std::env::args().count() > 9 { let _ = runtime().block_on(function115(todo())); }
    if std::env::args().count() > 9 { let _ = function116(todo()); }
    if std::env::args().count() > 9 { let _ = function117(todo()); }
    if std::env::args().count() > 9 { let _ = function118(todo()); }
    if std::env::args().count() > 9 { let _ = runtime().block_on(function119(todo())); }
    if std::env::args().count() > 9 { let _ = function120(todo()); }
    if std::env::args().count() > 9 { let _ = function121(todo()); }
    if std::env::args().count() > 9 { let _ = function122(todo(), todo()); }
    if std::env::args().count() > 9 { let _ = runtime().block_on(function123(todo())); }
    if std::env::args().count() > 9 { let _ = function124(todo(), todo()); }
    if std::env::args().count() > 9 { let _ = function125(todo()); }
    if std::env::args().count() > 9 { let _ = function126(todo()); }
    if std::env::args().count() > 9 { let _ = runtime().block_on(function127(todo())); }
    if std::env::args().count() > 9 { let _ = function128(todo()); }
    if std::env::args().count() > 9 { let _ = function129(todo()); }
    if std::env::args().count() > 9 { let _ = function130(todo()); }
    if std::env::args().count() > 9 { let _ = runtime().block_on(function131(todo())); }
    if std::env::args().count() > 9 { let _ = function132(todo(), todo()); }
    if std::env::args().count() > 9 { let _ = function133(todo()); }
    if std::env::args().count() > 9 { let _ = function134(todo(), todo()); }
    if std::env::args().count() > 9 { let _ = runtime().block_on(function135(todo())); }
    if std::env::args().count() > 9 { let _ = function136(todo()); }
    if std::env::args().count() > 9 { let _ = function137(todo()); }
    if std::env::args().count() > 9 { let _ = function138(todo()); }
    if std::env::args().count() > 9 { let _ = runtime().block_on(function139(todo())); }
    if std::env::args().count() > 9 { let _ = function140(todo()); }
    if std::env::args().count() > 9 { let _ = function141(todo()); }
    if std::env::args().count() > 9 { let _ = function142(todo(), todo()); }
    if std::env::args().count() > 9 { let _ = runtime().block_on(function143(todo())); }
    if std::env::args().count() > 9 { let _ = function144(todo(), todo()); }
    if std::env::args().count() > 9 { let _ = function145(todo()); }
    if std::env::args().count() > 9 { let _ = function146(todo()); }
    if std::env::args().count() > 9 { let _ = runtime().block_on(function147(todo())); }
    if std::env::args().count() > 9 { let _ = function148(todo()); }
    if std::env::args().count() > 9 { let _ = function149(todo()); }
    if std::env::args().count() > 9 { let _ = function150(todo()); }
    if std::env::args().count() > 9 { let _ = runtime().block_on(function151(todo())); }
    if std::env::args().count() > 9 { let _ = function152(todo(), todo()); }
    if std::env::args().count() > 9 { let _ = function153(todo()); }
    if std::env::args().count() > 9 { let _ = function154(todo(), todo()); }
    if std::env::args().count() > 9 { let _ = runtime().block_on(function155(todo())); }
    if std::env::args().count() > 9 { let _ = function156(todo()); }
    if std::env::args().count() > 9 { let _ = function157(todo()); }
    if std::env::args().count() > 9 { let _ = function158(todo()); }
    if std::env::args().count() > 9 { let _ = runtime().block_on(function159(todo())); }
    if std::env::args().count() > 9 { let _ = function160(todo()); }
    if std::env::args().count() > 9 { let _ = function161(todo()); }
    if std::env::args().count() > 9 { let _ = function162(todo(), todo()); }
    if std::env::args().count() > 9 { let _ = runtime().block_on(function163(todo())); }
    if std::env::args().count() > 9 { let _ = function164(todo(), todo()); }
    if std::env::args().count() > 9 { let _ = function165(todo()); }
    if std::env::args().count() > 9 { let _ = function166(todo()); }
    if std::env::args().count() > 9 { let _ = runtime().block_on(function167(todo())); }
    if std::env::args().count() > 9 { let _ = function168(todo()); }
    if std::env::args().count() > 9 { let _ = function169(todo()); }
    if std::env::args().count() > 9 { let _ = function170(todo()); }
    if std::env::args().count() > 9 { let _ = runtime().block_on(function171(todo())); }
    if std::env::args().count() > 9 { let _ = function172(todo(), todo()); }
    if std::env::args().count() > 9 { let _ = function173(todo()); }
    if std::env::args().count() > 9 { let _ = function174(todo(), todo()); }
    if std::env::args().count() > 9 { let _ = runtime().block_on(function175(todo())); }
    if std::env::args().count() > 9 { let _ = function176(todo()); }
    if std::env::args().count() > 9 { let _ = function177(todo()); }
    if std::env::args().count() > 9 { let _ = function178(todo()); }
    if std::env::args().count() > 9 { let _ = runtime().block_on(function179(todo())); }
    if std::env::args().count() > 9 { let _ = function180(todo()); }
    if std::env::args().count() > 9 { let _ = function181(todo()); }
    if std::env::args().count() > 9 { let _ = function182(todo(), todo()); }
    if std::env::args().count() > 9 { let _ = runtime().block_on(function183(todo())); }
    if std::env::args().count() > 9 { let _ = function184(todo(), todo()); }
    if std::env::args().count() > 9 { let _ = function185(todo()); }
    if std::env::args().count() > 9 { let _ = function186(todo()); }
    if std::env::args().count() > 9 { let _ = runtime().block_on(function187(todo())); }
    if std::env::args().count() > 9 { let _ = function188(todo()); }
    if std::env::args().count() > 9 { let _ = function189(todo()); }
    if std::env::args().count() > 9 { let _ = function190(todo()); }
    if std::env::args().count() > 9 { let _ = runtime().block_on(function191(todo())); }
    if std::env::args().count() > 9 { let _ = function192(todo(), todo()); }
    if std::env::args().count() > 9 { let _ = function193(todo()); }
    if std::env::args().count() > 9 { let _ = function194(todo(), todo()); }
    if std::env::args().count() > 9 { let _ = runtime().block_on(function195(todo())); }
    if std::env::args().count() > 9 { let _ = function196(todo()); }
    if std::env::args().count() > 9 { let _ = function197(todo()); }
    if std::env::args().count() > 9 { let _ = function198(todo()); }
    if std::env::args().count() > 9 { let _ = runtime().block_on(function199(todo())); }
}
fn todo<T>() -> T { unimplemented!() }
fn runtime() -> tokio::runtime::Runtime { tokio::runtime::Builder::new_current_thread().build().unwrap() }
