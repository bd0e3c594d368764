//! Enrolment and revocation of devices.

use super::{Fault, Fleet, Kind, millis, random_secret};
use crate::store::{
    operators::Operator,
    tokens::{EnrolmentToken, Issued, Refusal},
};
use whimbrel_wire::{
    DeviceId,
    api::{EnrollRequest, EnrollResponse, NewToken, TokenCreated},
    report::Platform,
};

const TTL_S_MAX: u32 = 365 * 24 * 3600;
const TAGS_MAX: usize = 16;
const TAG_BYTES_MAX: usize = 64;

impl Fleet {
    /// Makes a one-time token.
    ///
    /// # Errors
    /// When the request breaks a rule or the database refuses.
    pub(crate) async fn create_token(&self, new: &NewToken, by: &Operator) -> Result<TokenCreated, Fault> {
        if new.ttl_s == 0 || new.ttl_s > TTL_S_MAX {
            return Err(Fault::invalid(format!("ttl_s: {}, expected 1 to {TTL_S_MAX}", new.ttl_s)));
        }
        if new.tags.len() > TAGS_MAX || new.tags.iter().any(|t| t.is_empty() || t.len() > TAG_BYTES_MAX) {
            return Err(Fault::invalid(format!(
                "tags: expected at most {TAGS_MAX} of 1 to {TAG_BYTES_MAX} bytes"
            )));
        }
        let secret = random_secret()?;
        let now_ms = self.now_ms();
        let expires_ms = now_ms.saturating_add(i64::from(new.ttl_s) * 1000);
        let token = EnrolmentToken {
            secret: &secret,
            tenant: &self.settings().tenant,
            device: new.device.as_ref(),
            tags: &new.tags,
            expires_ms,
        };
        self.store().add_enrolment_token(&token, &by.actor(), now_ms).await?;
        Ok(TokenCreated { secret, ca: self.parts.ca.fingerprint(), expires_ms })
    }

    /// Certifies a device that knows the secret of an unused token. The token is used up only when all went well.
    ///
    /// # Errors
    /// 403 for the token, 409 for a name that is taken, 400 for the certificate request.
    pub(crate) async fn enrol(&self, request: &EnrollRequest) -> Result<EnrollResponse, Fault> {
        check_platform(&request.platform)?;
        let now = self.now();
        let now_ms = millis(now);
        let device = &request.device;
        let tenant = self.store().check_enrolment(&request.secret, device, now_ms).await?;
        let tenant = tenant.map_err(|refusal| refused(&refusal, device))?;
        let who = crate::bus::Address { tenant, device: device.clone() };
        let days = self.settings().device_certificate_days;
        let made = self.parts.ca.certify_device(&who, &request.csr_pem, days, now)?;
        let issued = Issued { serial: made.serial, not_after_ms: millis(made.not_after) };
        let enrolled =
            self.store().enrol(&request.secret, device, &request.platform, &issued, now_ms).await?;
        let who = enrolled.map_err(|refusal| refused(&refusal, device))?;
        // A device that enrols again: its earlier certificates have just ended.
        self.parts.bus.disconnect(&who).await;
        tracing::info!(device = %who.device, "enrolled");
        self.wake_planner();
        Ok(EnrollResponse {
            device: who.device,
            tenant: who.tenant,
            certificate_pem: made.pem,
            ca_pem: self.parts.ca.pem().to_owned(),
            mqtt_port: self.settings().mqtt_port,
        })
    }

    /// Ends a device's certificates and its connection.
    ///
    /// # Errors
    /// 404 when there is no such device.
    pub(crate) async fn revoke(&self, device: DeviceId, by: &Operator) -> Result<(), Fault> {
        let who = self.address(device);
        if !self.store().revoke(&who, &by.actor(), self.now_ms()).await? {
            return Err(Fault::not_found(format!("there is no device {}", who.device)));
        }
        self.parts.bus.disconnect(&who).await;
        self.wake_planner();
        Ok(())
    }
}

fn refused(refusal: &Refusal, device: &DeviceId) -> Fault {
    match refusal {
        Refusal::Token => Fault::new(
            Kind::Forbidden,
            format!("enrol {device}: the token is unknown, used or expired; ask an operator for a new one"),
        ),
        Refusal::OtherDevice => {
            Fault::new(Kind::Forbidden, format!("enrol {device}: the token was made for another device"))
        }
        Refusal::NameTaken => Fault::conflict(format!(
            "enrol {device}: there is a device of that name; choose another, or ask for a token made for {device} to replace it"
        )),
    }
}

fn check_platform(platform: &Platform) -> Result<(), Fault> {
    if platform.arch.len() > 64 || platform.board.len() > 255 {
        return Err(Fault::invalid("platform: arch is at most 64 bytes, board at most 255"));
    }
    Ok(())
}
