//! stub
use std::borrow::Cow;
use super::ids::SessionId;
pub struct Request<'b,'h>{pub len:usize, p: std::marker::PhantomData<(&'b u8,&'h u8)>}
pub enum Parsed<'b,'h>{Partial,Complete(Request<'b,'h>)}
#[derive(Debug, thiserror::Error)] #[error("x")] pub struct HeadError;
impl HeadError{pub fn status(&self)->u16{400}}
#[derive(Debug, thiserror::Error)] #[error("x")] pub struct HandshakeError;
impl HandshakeError{pub fn status(&self)->u16{400} pub fn headers(&self)->&'static [(&'static str,&'static str)]{&[]}}
pub enum Route{ControlPlane,BadSessionId,Room(SessionId),Echo}
pub struct Handshake<'a>{pub key:&'a [u8]}
pub fn parse<'b,'h>(_:&'b [u8],_:usize)->Result<Parsed<'b,'h>,HeadError>{Err(HeadError)}
pub fn classify(_:&Request<'_,'_>,_:bool)->Route{Route::Echo}
impl<'b,'h> Request<'b,'h>{pub fn websocket(&self)->Result<Handshake<'b>,HandshakeError>{Err(HandshakeError)}
pub fn query_pairs(&self)->impl Iterator<Item=(Cow<'b,str>,Cow<'b,str>)>{std::iter::empty()}
pub fn subprotocols(&self)->impl Iterator<Item=&'b str>{std::iter::empty()}}
pub fn switching_protocols(_:&[u8],_:Option<&str>,_:&mut Vec<u8>){}
pub fn problem(_:u16,_:&str,_:Option<u32>,_:&[(&str,&str)],_:&mut Vec<u8>){}
