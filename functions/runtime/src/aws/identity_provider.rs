//! Reads and removes logins in the Cognito user pool, and asks it who is in a group.

use aws_sdk_cognitoidentityprovider::{
    Client,
    operation::{
        admin_delete_user::AdminDeleteUserError, admin_get_user::AdminGetUserError,
        admin_list_groups_for_user::AdminListGroupsForUserError,
    },
};
use futures::try_join;
use kernel::problem::{Kind, Problem};

use crate::{
    Error, aws, environment,
    serve::http::{Caller, Request},
};

/// The user pool.
#[derive(Clone, Debug)]
pub struct UserPool {
    client: Client,
    id: String,
}

/// The e-mail address of a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Email {
    /// It is verified: its owner receives mail there.
    Verified(String),
    /// There is none, or it is not verified.
    Unverified,
    /// The login was removed, although its token is still valid.
    NoLogin,
}

impl UserPool {
    /// Connects to the pool that the environment variable `USER_POOL_ID` names.
    pub async fn connect() -> Result<Self, environment::Missing> {
        Ok(Self {
            client: aws::client!(aws_sdk_cognitoidentityprovider),
            id: environment::required("USER_POOL_ID")?,
        })
    }

    /// The e-mail address of a login.
    pub async fn email(&self, username: &str) -> Result<Email, Problem> {
        let answer = self.client.admin_get_user().user_pool_id(&self.id).username(username).send().await;
        let attributes = match answer {
            Ok(login) => login.user_attributes.unwrap_or_default(),
            Err(error)
                if matches!(error.as_service_error(), Some(AdminGetUserError::UserNotFoundException(_))) =>
            {
                return Ok(Email::NoLogin);
            }
            Err(error) => return Err(Problem::unavailable(error)),
        };
        let attribute = |name| attributes.iter().find(|attribute| attribute.name == name)?.value.clone();
        let verified = attribute("email_verified").as_deref() == Some("true");
        Ok(attribute("email").filter(|_| verified).map_or(Email::Unverified, Email::Verified))
    }

    /// The caller of a request that only members of `group` may make; 403 unless the user pool says so now.
    ///
    /// A token names its groups for as long as it lives, an hour. What only staff may do is rare and powerful enough to ask the pool
    /// instead, so that a member who has left, or was taken out of the group, is refused at once. Without the pool's answer
    /// nobody is let in: 503. Callers whose token does not name the group are refused without asking.
    pub async fn require_member<'request>(
        &self,
        request: &'request Request,
        group: &str,
    ) -> Result<&'request Caller, Problem> {
        let caller = request.require_group(group)?;
        let (may_sign_in, is_member) =
            try_join!(self.may_sign_in(caller), self.is_member(&caller.username, group))?;
        if !may_sign_in {
            return Err(Problem::new(Kind::Forbidden, "your login has been removed or disabled"));
        }
        if !is_member {
            return Err(Problem::new(
                Kind::Forbidden,
                format!("only members of the group {group} may do this, and you are no longer one"),
            ));
        }
        Ok(caller)
    }

    /// Whether the caller's login still exists and is enabled. A later login of the same name is someone else's.
    async fn may_sign_in(&self, caller: &Caller) -> Result<bool, Problem> {
        let request = self.client.admin_get_user().user_pool_id(&self.id).username(&caller.username);
        match request.send().await {
            Ok(login) => {
                let id = caller.id.to_string();
                let mut attributes = login.user_attributes().iter();
                let same =
                    attributes.any(|attribute| attribute.name == "sub" && attribute.value() == Some(&id));
                Ok(login.enabled && same)
            }
            Err(error)
                if matches!(error.as_service_error(), Some(AdminGetUserError::UserNotFoundException(_))) =>
            {
                Ok(false)
            }
            Err(error) => Err(Problem::unavailable(error)),
        }
    }

    /// Whether a login is in a group. One that does not exist is in none.
    async fn is_member(&self, username: &str, group: &str) -> Result<bool, Problem> {
        let request = self.client.admin_list_groups_for_user().user_pool_id(&self.id).username(username);
        let mut pages = request.into_paginator().send();
        while let Some(page) = pages.next().await {
            match page {
                Ok(page) if page.groups().iter().any(|found| found.group_name() == Some(group)) => {
                    return Ok(true);
                }
                Ok(_) => {}
                Err(error)
                    if matches!(
                        error.as_service_error(),
                        Some(AdminListGroupsForUserError::UserNotFoundException(_))
                    ) =>
                {
                    return Ok(false);
                }
                Err(error) => return Err(Problem::unavailable(error)),
            }
        }
        Ok(false)
    }

    /// Removes a login. One that is gone already counts as removed.
    pub async fn delete(&self, username: &str) -> Result<(), Error> {
        match self.client.admin_delete_user().user_pool_id(&self.id).username(username).send().await {
            Ok(_) => Ok(()),
            Err(error)
                if matches!(
                    error.as_service_error(),
                    Some(AdminDeleteUserError::UserNotFoundException(_))
                ) =>
            {
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }
}
