//! Constants in a description.

/// Numbers that are shared, and may not be there.
pub(crate) mod floats {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::sync::Arc;

    type Floats = Option<Arc<Vec<f32>>>;

    pub(crate) fn serialize<S: Serializer>(floats: &Floats, serializer: S) -> Result<S::Ok, S::Error> {
        floats.as_deref().serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Floats, D::Error> {
        Ok(Option::<Vec<f32>>::deserialize(deserializer)?.map(Arc::new))
    }
}

/// A tensor of elements of a fixed size.
pub(crate) mod constant {
    use crate::{datatype::Datatype, tensor::Tensor};
    use serde::{
        Deserialize, Deserializer, Serialize, Serializer,
        de::Error as _,
        ser::{Error as _, SerializeTuple},
    };
    use std::sync::Arc;

    pub(crate) fn serialize<S: Serializer>(tensor: &Arc<Tensor>, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes = tensor.as_le_bytes().ok_or_else(|| S::Error::custom("strings, or not readable"))?;
        let mut tuple = serializer.serialize_tuple(3)?;
        tuple.serialize_element(&tensor.datatype())?;
        tuple.serialize_element(tensor.shape())?;
        tuple.serialize_element(&Bytes(bytes))?;
        tuple.end()
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<Tensor>, D::Error> {
        let (datatype, shape, bytes) = <(Datatype, Vec<usize>, &[u8])>::deserialize(deserializer)?;
        let tensor = Tensor::from_le_bytes(datatype, shape, bytes.to_vec());
        tensor.map(Arc::new).map_err(D::Error::custom)
    }

    /// Bytes as one item rather than as many.
    struct Bytes<'a>(&'a [u8]);

    impl Serialize for Bytes<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_bytes(self.0)
        }
    }
}
